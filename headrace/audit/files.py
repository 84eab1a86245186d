"""The files of an audit. Law: their order is that of the lines in them, whatever they are called."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from gateway.audit_chain import Link, link_of
from gateway.audit_file import rotated

_FIRST: int = 64 * 1024  # bytes in which the first line is


@dataclass(frozen=True)
class File:
    """One of them; `first` is what its first line says of itself, if it is one of an audit."""

    path: Path
    first: Link | None
    size: int


def in_order(paths: Iterable[Path]) -> list[File]:
    """The files that are named, and of folders those that are of an audit, each once.

    A file that is named brings those with it that were rotated out of it. Raises OSError.
    """
    found: dict[Path, File] = {}
    for path in paths:
        for one in _of(path):
            found.setdefault(one.path.resolve(), one)
    return sorted(found.values(), key=lambda one: one.first.seq if one.first else 0)


def _of(path: Path) -> list[File]:
    if path.is_dir():
        there = (_file(one) for one in sorted(path.iterdir()) if one.is_file())
        return [one for one in there if one.first is not None]
    return [_file(one) for one in (*rotated(path), path)]


def _file(path: Path) -> File:
    with path.open("rb") as file:
        return File(path, link_of(file.readline(_FIRST).rstrip(b"\n")), path.stat().st_size)
