"""What a process tells of itself. Law: names are those of Prometheus's own clients, where these have one.

Where there is no /proc only the processor's time is told. Source: proc_pid_stat(5), proc_pid_statm(5).
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

from protos.metrics.described import Described, Kind
from protos.metrics.instruments import Registry

CPU: Final = Described(
    "process.cpu.time",
    Kind.COUNTER,
    "s",
    "Processor time that the process has taken, in user and in system mode.",
    prometheus="process_cpu_seconds_total",
)
MEMORY: Final = Described(
    "process.memory.usage",
    Kind.GAUGE,
    "By",
    "Memory that the process has resident.",
    prometheus="process_resident_memory_bytes",
)
FILES: Final = Described(
    "process.unix.file_descriptor.count",
    Kind.GAUGE,
    "{file_descriptor}",
    "Files, sockets and pipes that the process has open.",
    prometheus="process_open_fds",
)
THREADS: Final = Described("process.thread.count", Kind.GAUGE, "{thread}", "Threads of the process.")
INSTRUMENTS: Final = (CPU, MEMORY, FILES, THREADS)

_PROC: Final = Path("/proc/self")
_THREADS_FIELD: Final = 17  # of stat, counted from what follows the name


def of_itself(registry: Registry) -> None:
    """Have the process's own numbers told."""
    registry.asked(CPU, lambda: {(): time.process_time()})
    for described, number in ((MEMORY, _memory), (FILES, _files), (THREADS, _threads)):
        registry.asked(described, _where_there_is_proc(number))


def _where_there_is_proc(number: Callable[[], int]) -> Callable[[], dict[tuple[str, ...], float]]:
    def told() -> dict[tuple[str, ...], float]:
        try:
            return {(): number()}
        except OSError:
            return {}

    return told


def _memory() -> int:
    return int((_PROC / "statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def _files() -> int:
    return sum(1 for _ in (_PROC / "fd").iterdir()) - 1  # without that by which they are listed


def _threads() -> int:
    return int((_PROC / "stat").read_text().rpartition(")")[2].split()[_THREADS_FIELD])
