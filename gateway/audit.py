"""The audit of a process. Law: no call waits for its line; a line that is lost is told in the chain, once it can be.

A thread writes. While it cannot, lines wait, so many as fit, and writing is tried again; what does not fit is lost.
With `refuses` calls are then refused, until it can.
"""

from __future__ import annotations

import contextlib
import logging
import os
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from errno import EDQUOT, EFBIG, ENOSPC
from pathlib import Path
from threading import Lock
from typing import Final

from gateway.access_log import Told, lines_in, text_of
from gateway.audit_chain import Link
from gateway.audit_file import AuditFile, body
from gateway.audited import with_who
from protos import dropped, rfc3339
from protos.aside import Waiting, in_batches
from protos.complaints import Complaints
from protos.dropped import Signal

log = logging.getLogger("headrace.gateway")

_MOST: Final = 10_000  # lines that wait to be taken, and to be written
_MOST_BYTES: Final = 16 * 1024 * 1024  # of lines from elsewhere that wait to be taken
_TOGETHER: Final = 1000  # lines
_GATHER: Final = 0.02  # seconds
_EVERY: Final = 1.0  # seconds between looks at the file while nothing comes
_AGAIN: Final = 0.5  # seconds after which what failed is tried again
_STUCK: Final = 2.0  # seconds of writing after which it is held to hang
_NO_ROOM: Final = (ENOSPC, EDQUOT, EFBIG)
_CHECKPOINT: Final = 600.0  # seconds between words in the log of where the chain is


class Audit:
    """Takes lines; `written` and `lost` count those of this process since it began.

    `clock` is monotonic, in seconds; `now` tells nanoseconds since the epoch.
    """

    def __init__(self, file: AuditFile, *, refuses: bool, clock: Callable[[], float], now: Callable[[], int]) -> None:
        self.written = 0
        self.lost = 0
        self._file = file
        self._refuses = refuses
        self._clock = clock
        self._now = now
        self._complaints = Complaints(log, clock)
        self._waiting: Waiting[Told | bytes] = Waiting(_MOST)
        self._put = self._taken = 0  # bytes of lines from elsewhere
        self._pending: deque[bytes] = deque()
        self._losing = Lock()
        self._untold, self._since = 0, 0  # lines, and when the first of them was lost
        self._failed = False
        self._busy_since: float | None = None
        self._tried_at = float("-inf")
        self._told_at = clock()
        self._told = 0

    @property
    def failing(self) -> bool:
        """Whether lines cannot be written, or are not written in time."""
        busy_since = self._busy_since
        return self._failed or (busy_since is not None and self._clock() - busy_since > _STUCK)

    @property
    def refuses(self) -> bool:
        """Whether calls are to be refused now."""
        return self._refuses and self.failing

    @property
    def last(self) -> Link:
        """The last line that is known of, whoever has written it."""
        return self._file.last

    def write(self, line: Told) -> None:
        """A line of ours. Never blocks."""
        self._hand_over(line)

    def write_carried(self, lines: bytes) -> None:
        """Whole lines of JSON from the Envoy in front. Never blocks."""
        if self._put - self._taken > _MOST_BYTES:
            self._lose(lines_in(lines))
        else:
            self._put += len(lines)
            self._hand_over(lines)

    def _hand_over(self, what: Told | bytes) -> None:
        if not self._waiting.put(what):
            self._lose(lines_in(what))

    def _lose(self, lines: int, why: str = "lines come faster than they can be written") -> None:
        dropped.add(Signal.AUDIT, lines)
        with self._losing:
            self._since = self._since or self._now()
            self._untold += lines
            self.lost += lines
        self._fail(why)

    def _fail(self, why: str) -> None:
        if not self._failed:
            told = "calls are refused until it can" if self._refuses else "calls go on, and lines are lost"
            log.error("the audit cannot be written: %s; %s", why, told)
        self._failed = True

    @contextlib.contextmanager
    def writing(self) -> Iterator[None]:
        """While inside, a thread writes. Raises OSError: it never will; for room it waits."""
        self._say("start")
        try:
            self._append()
        except OSError as error:
            if error.errno not in _NO_ROOM:
                raise
            self._fail(error.strerror or str(error))
        self._checkpoint()
        with in_batches(self._take, "audit", _MOST, self._close, _EVERY, gather=_GATHER) as self._waiting:
            yield

    def _take(self, some: Sequence[Told | bytes]) -> None:
        for one in some:
            self._keep(self._made(one))
            if len(self._pending) >= _TOGETHER and not self._failed:
                self._try()
        if not self._failed or self._clock() - self._tried_at >= _AGAIN:
            self._try()
        if self._clock() - self._told_at >= _CHECKPOINT:
            self._checkpoint()

    def _made(self, one: Told | bytes) -> list[bytes]:
        if isinstance(one, bytes):
            self._taken += len(one)
        try:
            return [*map(with_who, one.splitlines())] if isinstance(one, bytes) else [text_of(one())[:-1]]
        except Exception as error:  # noqa: BLE001 - whatever it is, the audit goes on, and says that it lacks these
            self._complaints.warn("made", "lines of the audit cannot be made", exc_info=error)
            self._lose(lines_in(one), "some cannot be made")
            return []

    def _keep(self, bodies: list[bytes]) -> None:
        room = max(0, _MOST - len(self._pending))
        self._pending.extend(bodies[:room])
        if len(bodies) > room:
            self._lose(len(bodies) - room)

    def _try(self) -> None:
        """Write what waits, and then what was lost meanwhile."""
        self._tried_at = self._busy_since = self._clock()
        try:
            self._append()
            if self._untold:
                with self._losing:
                    lost, since, self._untold, self._since = self._untold, self._since, 0, 0
                self._say("lost", lost=lost, since=rfc3339.written(since))
                self._append()
        except OSError as error:
            self._fail(error.strerror or str(error))
        except Exception as error:  # noqa: BLE001 - as above; what was not written still waits
            self._complaints.warn("written", "lines of the audit cannot be written", exc_info=error)
            self._fail(type(error).__name__)
        else:
            if self._failed:
                log.warning("the audit can be written again")
            self._failed = False
        finally:
            self._busy_since = None

    def _append(self) -> None:
        """Raises OSError: what was not written still waits."""
        once = True
        while self._pending or once:
            once = False
            some = deque(self._pending.popleft() for _ in range(min(_TOGETHER, len(self._pending))))
            before = len(some)
            try:
                self._file.append(some)
            finally:
                self.written += before - len(some)
                self._pending.extendleft(reversed(some))

    def _say(self, kind: str, **more: object) -> None:
        self._pending.append(body(kind, self._now(), pid=os.getpid(), **more))

    def _checkpoint(self) -> None:
        """Tell where the chain is: who has that finds a chain that was made anew."""
        last, self._told_at = self.last, self._clock()
        if last.seq > self._told:
            self._told = last.seq
            log.info("audit: line %d is %s", last.seq, last.chain)

    def _close(self) -> None:
        self._say("stop")
        self._try()
        self._checkpoint()
        if self._pending:
            log.error("%d lines of the audit are lost", len(self._pending))
        self._file.close()


@contextlib.contextmanager
def auditing(path: Path, rotate: int, keep: int, *, refuses: bool) -> Iterator[Audit]:
    """The audit while inside. Raises OSError: it cannot be written."""
    file = AuditFile(path, rotate, keep, time.time_ns)
    audit = Audit(file, refuses=refuses, clock=time.monotonic, now=time.time_ns)
    with audit.writing():
        yield audit
