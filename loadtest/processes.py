"""What the kernel tells of processes. Law: read where it is, from /proc; a process that is gone has nothing to tell."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path

_TICKS = os.sysconf("SC_CLK_TCK")  # a second


def tree(root: int) -> Sequence[int]:
    """A process and all that it has started, and these."""
    found = [root]
    for pid in found:  # which grows meanwhile
        for task in Path(f"/proc/{pid}/task").glob("*/children"):
            with suppress(OSError):
                found.extend(map(int, task.read_text().split()))
    return found


def named(name: str, among: Iterable[int]) -> Sequence[int]:
    """Those whose program's name has this in it."""
    return [pid for pid in among if name in Path(f"/proc/{pid}/comm").read_text()]


def cpu(pids: Iterable[int]) -> float:
    """Seconds of processor time, user and system, of all their threads so far. OSError for one that is gone."""
    return sum(map(_cpu, pids))


def _cpu(pid: int) -> float:
    user, system = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[11:13]
    return (int(user) + int(system)) / _TICKS


def memory(pid: int) -> tuple[int, int]:
    """Bytes: resident, and its proportional share, for which what several have is counted once, in equal parts."""
    rollup = Path(f"/proc/{pid}/smaps_rollup").read_text()
    return _bytes("Rss", rollup), _bytes("Pss", rollup)


def _bytes(name: str, rollup: str) -> int:
    match = re.search(rf"^{name}: +(\d+) kB$", rollup, re.MULTILINE)
    return int(match[1]) * 1024 if match else 0


def bind(pid: int, cpus: set[int]) -> None:
    """Run a process that runs already, with all its threads, on these processors only."""
    for task in Path(f"/proc/{pid}/task").iterdir():
        with suppress(ProcessLookupError):
            os.sched_setaffinity(int(task.name), cpus)
