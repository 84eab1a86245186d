"""Where log lines go. Law: nothing that logs ever waits for whoever reads the log.

A thread writes to standard error. What it cannot write in time is dropped, and the next line that gets through says how
many were.
"""

from __future__ import annotations

import contextlib
import logging
import os
import queue
import sys
from collections.abc import Iterator
from logging.handlers import QueueHandler
from threading import Thread
from typing import Final

_MOST_WAITING: Final = 10_000
_LAST_WORDS: Final = 1.0  # seconds that the last lines may take
_FORMAT: Final = "%(asctime)s %(levelname)s %(name)s %(message)s"


class _Bounded(QueueHandler):
    """Hands records to the thread; drops them, and counts, where too many wait."""

    def __init__(self, waiting: queue.Queue[logging.LogRecord | None]) -> None:
        super().__init__(waiting)
        self._dropped = 0

    def enqueue(self, record: logging.LogRecord) -> None:
        """Never blocks."""
        if self._dropped:
            record.msg = f"{record.msg} ({self._dropped} lines before this one are lost)"
        try:
            self.queue.put_nowait(record)
            self._dropped = 0
        except queue.Full:
            self._dropped += 1


@contextlib.contextmanager
def to_stderr(level: int = logging.INFO) -> Iterator[None]:
    """While inside, records of this level and above are written to standard error."""
    waiting: queue.Queue[logging.LogRecord | None] = queue.Queue(_MOST_WAITING)
    # Not the library's listener: it would wait at the end for a reader that never reads.
    thread = Thread(target=_write, args=(waiting, sys.stderr.fileno()), name="log", daemon=True)
    thread.start()
    # It logs metadata that it cannot read, tokens among them.
    logging.getLogger("grpc._cython.cygrpc").setLevel(logging.CRITICAL)
    root, handler = logging.getLogger(), _Bounded(waiting)
    before = root.level
    root.addHandler(handler)
    root.setLevel(level)
    try:
        yield
    finally:
        root.removeHandler(handler)
        root.setLevel(before)
        with contextlib.suppress(queue.Full):
            waiting.put_nowait(None)
        thread.join(_LAST_WORDS)


def _write(waiting: queue.Queue[logging.LogRecord | None], stderr: int) -> None:
    formatter = logging.Formatter(_FORMAT)
    while (record := waiting.get()) is not None:
        # Not through a stream or a handler: a write that hangs would hold their locks, which the end of Python takes.
        with contextlib.suppress(OSError):
            os.write(stderr, f"{formatter.format(record)}\n".encode(errors="backslashreplace"))
