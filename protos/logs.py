"""Where log lines go. Law: nothing that logs ever waits for whoever reads the log.

A thread writes to standard error. What it cannot write in time is dropped, and the next line that gets through says how
many were.
"""

from __future__ import annotations

import contextlib
import functools
import logging
import os
import queue
import sys
from collections.abc import Iterator
from logging.handlers import QueueHandler
from typing import Final

from protos.aside import aside

_FORMAT: Final = "%(asctime)s %(levelname)s %(process)d %(name)s %(message)s"


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
    # It logs metadata that it cannot read, tokens among them.
    logging.getLogger("grpc._cython.cygrpc").setLevel(logging.CRITICAL)
    write = functools.partial(_write, sys.stderr.fileno(), logging.Formatter(_FORMAT))
    # Not the library's listener: it would wait at the end for a reader that never reads.
    with aside(write, "log") as waiting:
        root, handler = logging.getLogger(), _Bounded(waiting)
        before = root.level
        root.addHandler(handler)
        root.setLevel(level)
        try:
            yield
        finally:
            root.removeHandler(handler)
            root.setLevel(before)


def _write(stderr: int, formatter: logging.Formatter, record: logging.LogRecord) -> None:
    # Not through a stream or a handler: a write that hangs would hold their locks, which the end of Python takes.
    with contextlib.suppress(OSError):
        os.write(stderr, f"{formatter.format(record)}\n".encode(errors="backslashreplace"))
