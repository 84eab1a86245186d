"""The audit's files. Law: lines go on the chain as it is on the disk, and nothing that was written is changed.

Several processes append to one chain, one after the other (flock(2): the lock is gone with its holder, too); who finds
the file longer than it left it reads its end. The first line of a file, `begin`, names the last of the one before. A
file that is large enough is renamed to `NAME.SEQ`, the number of its first line. What is no line, because whoever
wrote it was ended, or the disk was full, stays where it is, and the next line, `torn`, says so.
"""

from __future__ import annotations

import fcntl
import json
import logging
import os
import re
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from errno import EEXIST, EILSEQ, ENOSPC
from hashlib import sha256
from pathlib import Path
from typing import Final

from gateway.access_log import same
from gateway.audit_chain import BEGINNING, Link, follows, link_of, linked
from protos import rfc3339, tracing

log = logging.getLogger("headrace.gateway")

_OPEN: Final = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC
_MODE: Final = 0o640  # it names callers
_TAIL: Final = 64 * 1024  # bytes, in which there is a line at least
_UNKNOWN: Final = -1
_BEGIN: Final = b'{"headrace.audit":"begin"'


class AuditFile:
    """The file, and those that were rotated; `last` is the last line that is known of.

    `rotate`: bytes; `keep`: how many rotated files, 0 for all. `now` tells nanoseconds since the epoch.
    """

    def __init__(self, path: Path, rotate: int, keep: int, now: Callable[[], int]) -> None:
        self.last = BEGINNING
        self._path = path
        self._rotate = rotate
        self._keep = keep
        self._now = now
        self._file = _UNKNOWN
        self._size = _UNKNOWN  # with which we have seen it last

    def append(self, bodies: deque[bytes]) -> None:
        """Take from the left what was written whole. Raises OSError: the rest was not."""
        with self._locked() as file:
            ours, torn = self._found(file)
            size, self._size = self._size, _UNKNOWN
            if not bodies:
                self._size = _UNKNOWN if ours else size
                return
            text, ends = bytearray(b"\n" if torn else b""), []
            link = self.last
            for each in (*ours, *bodies):
                line, link = linked(each, link)
                text += line
                ends.append((len(text), link))
            written = os.write(file, text)
            whole = [link for end, link in ends if end - 1 <= written]  # one that lacks its newline alone gets it next
            self.last = whole[-1] if whole else self.last
            for _ in whole[len(ours) :]:
                bodies.popleft()
            if written < len(text):
                raise OSError(ENOSPC, os.strerror(ENOSPC))
            self._size = size + written

    def close(self) -> None:
        """Close the file."""
        if self._file != _UNKNOWN:
            os.close(self._file)
            self._file = _UNKNOWN

    @contextmanager
    def _locked(self) -> Iterator[int]:
        """The file that is there now, to which nobody else writes meanwhile."""
        while True:
            if self._file == _UNKNOWN:
                self._file, self._size = os.open(self._path, _OPEN, _MODE), _UNKNOWN
            fcntl.flock(self._file, fcntl.LOCK_EX)
            try:
                if same(self._path, self._file) and not self._rotated(self._file):
                    yield self._file
                    return
            finally:
                fcntl.flock(self._file, fcntl.LOCK_UN)
            self.close()

    def _found(self, file: int) -> tuple[Sequence[bytes], bool]:
        """What is to be said first, and whether what is there has no end; `last` is then as it is there."""
        size = os.fstat(file).st_size
        if size == self._size:
            return (), False
        tail = os.pread(file, min(size, _TAIL), max(0, size - _TAIL))
        link, torn = _end(tail)
        if link is None:
            return [self._begun(file, size, tail)], False
        self._further(link)
        if torn and follows(torn, link):
            self._further(link_of(torn))
            return (), True
        self._size = size
        if not torn:
            return (), False
        told = {"bytes": len(torn), "sha256": sha256(torn).hexdigest()}
        return [self._body("torn", torn=told)], not torn.endswith(b"\n")

    def _begun(self, file: int, size: int, found: bytes) -> bytes:
        """The first line's body; of one that is not whole nothing can follow. Raises OSError: it is no file of ours."""
        if size != len(found) or found[: len(_BEGIN)] != _BEGIN[:size]:
            raise OSError(EILSEQ, "it does not end in a line of an audit: move it away")
        if size:
            os.truncate(file, 0)
        self._further(self._rotated_last())
        self._size = 0
        return self._body("begin", previous={"seq": self.last.seq, "chain": self.last.chain})

    def _further(self, link: Link | None) -> None:
        """Lines that were taken away are missed: it is gone on from the last that is known of."""
        if link is not None and link.seq > self.last.seq:
            self.last = link

    def _rotated(self, file: int) -> bool:
        """Rename the file where it is large enough; where that cannot be, it grows."""
        if os.fstat(file).st_size < self._rotate:
            return False
        if self._found(file)[0]:  # which goes there yet
            self._size = _UNKNOWN
            return False
        first = link_of(os.pread(file, _TAIL, 0).partition(b"\n")[0])
        target = self._path.with_name(f"{self._path.name}.{(first or self.last).seq:012d}")
        try:
            if target.exists():
                raise FileExistsError(EEXIST, f"{target} is there already")
            os.fsync(file)
            self._path.rename(target)
            for old in rotated(self._path)[: -self._keep] if self._keep else ():
                old.unlink()
        except OSError as error:
            if not same(self._path, file):
                log.warning("an old file of the audit cannot be removed: %s", error)
                return True
            self._rotate *= 2
            log.warning("the audit cannot be rotated: %s: %s; it grows", self._path, error.strerror)
            return False
        log.info("audit: line %d is %s; %s is full", self.last.seq, self.last.chain, target.name)
        return True

    def _rotated_last(self) -> Link | None:
        """The last line of what was rotated last."""
        for path in reversed(rotated(self._path)):
            with path.open("rb") as file:
                file.seek(max(0, file.seek(0, os.SEEK_END) - _TAIL))
                links = (link_of(line) for line in reversed(file.read().splitlines()))
                if found := next(filter(None, links), None):
                    return found
        return None

    def _body(self, kind: str, **more: object) -> bytes:
        return body(kind, self._now(), **more)


def _end(tail: bytes) -> tuple[Link | None, bytes]:
    """The last line of an audit there, and what comes after it."""
    end = len(tail)
    while (newline := tail.rfind(b"\n", 0, end)) >= 0:
        if link := link_of(tail[tail.rfind(b"\n", 0, newline) + 1 : newline]):
            return link, tail[newline + 1 :]
        end = newline
    return None, tail


def body(kind: str, now: int, **more: object) -> bytes:
    """Of a line about the audit itself."""
    told = {tracing.AUDIT: kind, tracing.TIME: rfc3339.written(now), **more}
    return json.dumps(told, sort_keys=True, separators=(",", ":")).encode()


def rotated(path: Path) -> list[Path]:
    """The files that were rotated, the oldest first."""
    name = re.compile(re.escape(path.name) + r"\.[0-9]{12,}")
    with suppress(FileNotFoundError):
        found = [one for one in path.parent.iterdir() if name.fullmatch(one.name)]
        return sorted(found, key=lambda one: int(one.suffix[1:]))
    return []
