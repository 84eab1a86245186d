"""Which version a sequence stays with. Law: what moves a model's weights or aliases moves no sequence that runs.

The version that a sequence has when it starts is written down, for every gateway process behind the same door, until
its end, or until it has been silent for the model's `sequence.idle`. Where nothing is written down (the gateway was
started anew, there are more sequences than places, or it started at another gateway) its own lot decides, as when it
started: it then stays where it was if the weights are still the same.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from pathlib import Path
from typing import Final

from gateway.call import Call
from gateway.choose import Route, in_sequence, resolve
from gateway.ledger import Ledger

_PLACES: Final = 1 << 16
_PIN: Final = struct.Struct("=Qd")  # the version, 0 for none, and until when it holds


class Pinned:
    """The versions of the sequences that run.

    `shared`: the folder of what several processes keep together. `clock` is monotonic, in seconds, and all processes'.
    Raises OSError: the file cannot be had.
    """

    def __init__(self, shared: Path | None, clock: Callable[[], float]) -> None:
        self._ledger = Ledger(_PIN.size, _PLACES, shared / "sequences" if shared else None)
        self._clock = clock

    def close(self) -> None:
        """Let go of the memory."""
        self._ledger.close()

    def stay(self, call: Call, route: Route) -> Route:
        """The route of a call as its sequence has it; what is drawn, or what an alias names now, is for new ones.

        Raises HeadraceError VERSION_UNKNOWN: the sequence's version is no more.
        """
        model, place = route.model, call.sequence
        if place is None or model.sequence is None or call.version == route.version:  # named: that, and no other
            return route
        version = self._version(call.version, route, model.sequence.idle)
        if version == route.version:
            return route
        return in_sequence(call, place, route.sequence, model, resolve(model, version), route.level)

    def _version(self, asked: str, route: Route, idle: float) -> str:
        """The version that the sequence has, the route's where it is new; and what is written down of it."""
        now = self._clock()
        with self._ledger.record(route.model.name, asked, route.sequence) as record:
            kept, until = _PIN.unpack(record.value)
            runs = kept and now < until and not route.sequence_start
            version = str(kept) if runs else route.version
            kept, until = (0, now) if route.sequence_end else (int(version), now + idle)
            record.value[:] = _PIN.pack(kept, until)
            record.keep(until)
        return version
