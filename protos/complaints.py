"""What goes wrong again and again. Law: one line for each kind in a while, and the next one says how many there were.

An outage must be seen in the log, and must not fill it.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Hashable
from dataclasses import dataclass

_MOST_KINDS = 1000


@dataclass(slots=True)
class _Kind:
    told_at: float
    untold: int = 0
    last_at: float = 0.0


class Complaints:
    """Warnings to `log`, one for each key every so many seconds of `clock` (monotonic)."""

    def __init__(self, log: logging.Logger, clock: Callable[[], float], every: float = 10.0) -> None:
        self._log = log
        self._clock = clock
        self._every = every
        self._kinds: dict[Hashable, _Kind] = {}

    def warn(self, key: Hashable, message: str, exc_info: BaseException | None = None) -> None:
        """Log the message, or count it where its kind was told of a moment ago."""
        now = self._clock()
        kind = self._kinds.get(key)
        if kind is not None and now - kind.told_at < self._every:
            kind.untold, kind.last_at = kind.untold + 1, now
            return
        more = ""
        if kind is not None and kind.untold:
            more = f" (after {kind.untold} more like it, the last of them {now - kind.last_at:.0f} s ago)"
        if len(self._kinds) >= _MOST_KINDS:
            del self._kinds[next(iter(self._kinds))]
        self._kinds[key] = _Kind(now)
        self._log.warning("%s%s", message, more, exc_info=exc_info)
