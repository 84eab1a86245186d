"""Disk, memory and open files. Law: what is short is told before it ends a process."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Final

from headrace.doctor.finding import Finding
from protos.units import written_size

_AREA: Final = "limits"
_MIB: Final = 1024 * 1024
_DISK: Final = 500 * _MIB  # free bytes, under which an access log or a log of Envoy's is soon at its end
_NO_DISK: Final = 10 * _MIB
_PROCESS: Final = 128 * _MIB  # bytes of a Python process with nothing to do, generously
_AT_ONCE: Final = 4  # largest requests that a process should be able to hold
_FILES: Final = 4096


def disk(folders: Iterable[Path], free: Callable[[Path], int]) -> Iterator[Finding]:
    """Whether there is room where we write, and whether we may; `free` tells bytes."""
    for folder in folders:
        try:
            room = free(folder)
        except OSError as error:
            yield Finding(_AREA, "error", f"{folder} cannot be used: {error.strerror}", "make it, or name another")
            continue
        what = f"{folder} has {room // _MIB} MiB free"
        if not os.access(folder, os.W_OK):
            yield Finding(_AREA, "error", f"{folder} cannot be written", "let the gateway's user write there")
        elif room < _DISK:
            yield Finding(_AREA, "error" if room < _NO_DISK else "warning", what, "make room there")
        else:
            yield Finding(_AREA, "ok", what)


def memory(available: int | None, processes: int, largest: int) -> Iterator[Finding]:
    """Whether some of the largest requests can be held; `available` bytes, None where nothing tells."""
    if available is None:
        return
    needed = processes * (_PROCESS + _AT_ONCE * largest)
    what = f"{available // _MIB} MiB of memory are available"
    if available < needed:
        do = f"give it more, or lower listen.processes or max_request (the largest is {written_size(largest)})"
        yield Finding(
            _AREA, "warning", f"{what}; {needed // _MIB} MiB would hold {_AT_ONCE} of the largest requests", do
        )
    else:
        yield Finding(_AREA, "ok", what)


def files(most: int) -> Iterator[Finding]:
    """Whether there may be many connections: `most` is the hard limit of open files, negative for none."""
    if 0 <= most < _FILES:
        what = f"a process may have {most} files open, and each connection is one"
        yield Finding(_AREA, "warning", what, "raise the hard limit (LimitNOFILE of a unit, ulimit -Hn)")
    else:
        yield Finding(_AREA, "ok", f"a process may have {'any number of' if most < 0 else most} files open")


def available(root: Path) -> int | None:
    """Bytes that the machine at `root` has for more processes, bounded by what is left to our cgroup (version 2)."""
    lines = _read(root / "proc/meminfo").splitlines()
    told = [int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:")]
    group = _read(root / "proc/self/cgroup").strip().rpartition("::")[2].lstrip("/")
    top = root / "sys/fs/cgroup"
    for folder in (top / group, *(top / group).parents):
        limit, used = (_read(folder / name).strip() for name in ("memory.max", "memory.current"))
        if limit.isdigit() and used.isdigit():
            told.append(max(0, int(limit) - int(used)))
    return min(told, default=None)


def _read(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""
