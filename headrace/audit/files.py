"""The files of an audit. Law: their order is that of the lines in them, whatever they are called.

The gateway may rename the last one while it is read; it is the same file then.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Final

from gateway.audit_chain import Link, link_of
from gateway.audit_file import rotated

_FIRST: Final = 64 * 1024  # bytes in which the first line is

Identity = tuple[int, int]


@dataclass(frozen=True)
class File:
    """One of them; `first` is what its first line says of itself, if it is one of an audit."""

    path: Path
    first: Link | None
    size: int
    identity: Identity

    def open(self) -> BinaryIO:
        """The file, also where it is called otherwise meanwhile. Raises OSError."""
        for path in (self.path, *reversed(rotated(self.path))):
            with suppress(FileNotFoundError):
                file = path.open("rb")
                if _identity(os.fstat(file.fileno())) == self.identity:
                    return file
                file.close()
        return self.path.open("rb")


def in_order(paths: Iterable[Path]) -> list[File]:
    """The files that are named, and of folders those that are of an audit, each once; without empty ones.

    A file that is named brings those with it that were rotated out of it. Raises OSError.
    """
    found: dict[Identity, File] = {}
    for path in paths:
        for one in _of(path):
            found.setdefault(one.identity, one)
    there = (one for one in found.values() if one.size)
    return sorted(there, key=lambda one: one.first.seq if one.first else 0)


def _of(path: Path) -> Iterator[File]:
    if path.is_dir():
        there = (_file(one) for one in sorted(path.iterdir()) if one.is_file())
        yield from (one for one in there if one.first is not None)
        return
    named = None
    with suppress(FileNotFoundError):
        named = _file(path)
    old = rotated(path)  # after that: so a file that is renamed now is in one of both
    if named is None and not old:
        named = _file(path)
    yield from (_file(one) for one in old)
    if named is not None:
        yield named


def _file(path: Path) -> File:
    with path.open("rb") as file:
        told = os.fstat(file.fileno())
        return File(path, link_of(file.readline(_FIRST).rstrip(b"\n")), told.st_size, _identity(told))


def _identity(told: os.stat_result) -> Identity:
    return told.st_dev, told.st_ino
