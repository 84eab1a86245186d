"""What gateway processes keep together, by key. Law: every process sees what another has written, and none waits long.

A table of records in memory that all of them have mapped, of a size that is fixed at the beginning. A key has its place
in one of many sets of a few records; while a record is looked at, its set is locked against other processes (fcntl(2),
F_SETLKW: the lock of a process that dies is gone, too). Where a set is full, the record that may be forgotten first is.
Which set is a key's nobody outside can know: else callers could choose names that push others out.
"""

from __future__ import annotations

import fcntl
import mmap
import os
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import blake2b
from pathlib import Path
from typing import Final

import grpc

from protos.errors import HeadraceError, Reason

_WAYS: Final = 8  # records in a set
_KEY: Final = 16  # bytes
_UNTIL: Final = struct.Struct("d")
_NEVER: Final = float("inf")
_SOON: Final = 1.0  # seconds
_SECRET: Final = 32  # bytes at the beginning


class Record:
    """What is kept of a key while it is looked at: `value`, and `until` when, in seconds of the clock in use."""

    __slots__ = ("_at", "_memory", "new", "value")

    def __init__(self, memory: mmap.mmap, at: int, value: memoryview, *, new: bool) -> None:
        self._memory = memory
        self._at = at
        self.value = value
        self.new = new

    def keep(self, until: float) -> None:
        """Let it be forgotten at that time, and not sooner if there is room."""
        _UNTIL.pack_into(self._memory, self._at, until)


class Ledger:
    """A table of `most` records of `size` bytes each; without a file it is this process's alone.

    Raises OSError: the file cannot be had.
    """

    def __init__(self, size: int, most: int, file: Path | None = None) -> None:
        self._sets = max(1, most // _WAYS)
        self._size = size
        self._header = _WAYS * (_KEY + _UNTIL.size)  # of a set: its keys, then until when each is kept, then values
        self._set_size = self._header + _WAYS * size
        length = _SECRET + self._sets * self._set_size
        self._file = -1 if file is None else os.open(file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        if file is not None:
            os.truncate(self._file, length)  # which leaves alone what another has written
        self._memory = mmap.mmap(self._file, length)
        self._view = memoryview(self._memory)
        self._secret = self._agreed()

    def _agreed(self) -> bytes:
        """A secret of all who have the memory; the first makes it."""
        with self._locked(self._sets):
            if not any(self._memory[:_SECRET]):
                self._memory[:_SECRET] = os.urandom(_SECRET)
            return self._memory[:_SECRET]

    @contextmanager
    def _locked(self, number: int) -> Iterator[None]:
        if self._file >= 0:
            fcntl.lockf(self._file, fcntl.LOCK_EX, 1, number)
        try:
            yield
        finally:
            if self._file >= 0:
                fcntl.lockf(self._file, fcntl.LOCK_UN, 1, number)

    def close(self) -> None:
        """Let go of the memory."""
        self._view.release()
        self._memory.close()
        if self._file >= 0:
            os.close(self._file)

    @contextmanager
    def record(self, *key: str) -> Iterator[Record]:
        """The record of the key, locked while inside; a `new` one is all zeros, and kept only if `keep` is called.

        Raises HeadraceError OVERLOADED: there is no room for it, but that of records which are kept for ever.
        """
        words = "\0".join(key).encode(errors="surrogatepass")
        digest = blake2b(words, digest_size=_KEY, key=self._secret).digest()
        number = int.from_bytes(digest[:8]) % self._sets
        with self._locked(number):
            found = self._found(number, digest)
            try:
                yield found
            finally:
                found.value.release()

    def values(self) -> Iterator[memoryview]:
        """Every value there is room for, unlocked; for what is done to all of them before there are others."""
        for number in range(self._sets):
            for way in range(_WAYS):
                yield self._value(number, way)

    def _found(self, number: int, digest: bytes) -> Record:
        begin = _SECRET + number * self._set_size
        untils = begin + _WAYS * _KEY
        for way in range(_WAYS):
            at = begin + way * _KEY
            if self._memory[at : at + _KEY] == digest:
                return Record(self._memory, untils + way * _UNTIL.size, self._value(number, way), new=False)
        times = struct.unpack_from(f"{_WAYS}d", self._memory, untils)
        if min(times) == _NEVER:
            raise HeadraceError(
                grpc.StatusCode.RESOURCE_EXHAUSTED, Reason.OVERLOADED, "too many calls run", retry_after=_SOON
            )
        way = times.index(min(times))
        at = begin + way * _KEY
        self._memory[at : at + _KEY] = digest
        _UNTIL.pack_into(self._memory, untils + way * _UNTIL.size, 0.0)
        value = self._value(number, way)
        value[:] = bytes(self._size)
        return Record(self._memory, untils + way * _UNTIL.size, value, new=True)

    def _value(self, number: int, way: int) -> memoryview:
        begin = _SECRET + number * self._set_size + self._header + way * self._size
        return self._view[begin : begin + self._size]
