"""The access log's file. Law: no call waits for its line, and no line is torn or mixed with another's.

Other threads, and other processes of this gateway, append to the same file: what is written together are whole lines.
Whoever moves the file away gets another one; whoever makes it short (logrotate's `copytruncate`) need tell nobody.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final, NamedTuple

from protos import dropped, rfc3339, tracing
from protos.aside import Waiting, in_batches
from protos.complaints import Complaints
from protos.dropped import Signal

log = logging.getLogger("headrace.gateway")

STDOUT: Final = Path("-")
_APPEND: Final = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC
_MODE: Final = 0o640  # it names callers
_GATHER: Final = 0.02  # seconds
_LOOK: Final = 1.0  # seconds between looks at whether the file is still the same
_TOGETHER: Final = 4096  # bytes that a pipe takes as one (pipe(7), PIPE_BUF)
_MOST: Final = 10_000  # lines that wait
_encoded: Final = json.JSONEncoder(sort_keys=True, separators=(",", ":")).encode


class Line(NamedTuple):
    """A call that has ended: when it began (nanoseconds since the epoch), and what else is told of it."""

    began: int
    fields: Mapping[str, str | int]


Told = Callable[[], Line]
"""Makes a line; the thread that writes it calls it."""


class AccessLog:
    """Hands lines to the thread that writes them."""

    def __init__(self, waiting: Waiting[Told | bytes], clock: Callable[[], float]) -> None:
        self._waiting = waiting
        self._complaints = Complaints(log, clock)

    def write(self, line: Told | bytes) -> None:
        """A line, or whole ones. Never blocks: what finds no room is lost, which is told."""
        if not self._waiting.put(line):
            dropped.add(Signal.ACCESS_LOG, lines_in(line))
            self._complaints.warn("full", "lines of the access log are lost: they come faster than they can be written")


@contextlib.contextmanager
def appending(
    path: Path, clock: Callable[[], float], most: int = _MOST, gather: float = _GATHER
) -> Iterator[AccessLog]:
    """The access log while inside; `clock` is monotonic, in seconds. Raises OSError: the file cannot be opened.

    `most` lines wait; for `gather` seconds more are waited for (`protos.aside`).
    """
    file = _File(path, clock)
    with in_batches(file.write, "access log", most, file.close, gather=gather) as waiting:
        yield AccessLog(waiting, clock)


class _File:
    """What the thread does."""

    def __init__(self, path: Path, clock: Callable[[], float]) -> None:
        self._path = path
        self._clock = clock
        self._complaints = Complaints(log, clock)
        self._file = _opened(path)
        self._looked_at = clock()
        self._torn = False

    def write(self, lines: Sequence[Told | bytes]) -> None:
        """Append whole lines; where that fails they are lost."""
        text = b"".join(map(self._made, lines))
        try:
            if self._path != STDOUT:
                self._look()
                self._append(text)
            else:
                for part in _parts(text):
                    self._append(part)
        except OSError as error:
            dropped.add(Signal.ACCESS_LOG, text.count(b"\n"))
            self._complaints.warn("lost", f"lines of the access log are lost: {self._path}: {error.strerror}")

    def close(self) -> None:
        """Close the file."""
        os.close(self._file)

    def _made(self, line: Told | bytes) -> bytes:
        try:
            return line if isinstance(line, bytes) else text_of(line())
        except Exception as error:  # noqa: BLE001 - whatever it is, the others are written
            dropped.add(Signal.ACCESS_LOG)
            self._complaints.warn("made", "a line of the access log cannot be made", exc_info=error)
            return b""

    def _append(self, text: bytes) -> None:
        whole = b"\n" + text if self._torn else text
        written = os.write(self._file, whole)
        self._torn = written < len(whole)
        if self._torn:
            dropped.add(Signal.ACCESS_LOG, whole[written:].count(b"\n"))
            self._complaints.warn("torn", f"a line of the access log is torn: {self._path}: the disk is full")

    def _look(self) -> None:
        """Open the file anew where it is another one, or gone."""
        now = self._clock()
        if now - self._looked_at < _LOOK:
            return
        if not same(self._path, self._file):
            file = _opened(self._path)
            os.close(self._file)
            self._file = file
        self._looked_at = now


def _opened(path: Path) -> int:
    return os.dup(1) if path == STDOUT else os.open(path, _APPEND, _MODE)


def same(path: Path, file: int) -> bool:
    """Whether the open file is the one that is there."""
    try:
        return os.path.samestat(path.stat(), os.fstat(file))
    except FileNotFoundError:
        return False


def _parts(text: bytes) -> Iterator[bytes]:
    """Whole lines, as many as a pipe takes together."""
    start = 0
    while len(text) - start > _TOGETHER:
        end = text.rfind(b"\n", start, start + _TOGETHER) + 1 or text.index(b"\n", start) + 1
        yield text[start:end]
        start = end
    if start < len(text):
        yield text[start:]


def lines_in(line: Told | bytes) -> int:
    """How many it is."""
    return line.count(b"\n") if isinstance(line, bytes) else 1


def text_of(line: Line) -> bytes:
    """As it is written, with its end."""
    fields = {tracing.TIME: rfc3339.written(line.began), **line.fields}
    # In the order of the Envoy's; plain ASCII, so that what a caller calls a model ends no line.
    return f"{_encoded(fields)}\n".encode()
