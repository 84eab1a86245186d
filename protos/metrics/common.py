"""What gateway and worker tell alike. Law: the same name means the same in both."""

from __future__ import annotations

import resource
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from protos import dropped, tracing
from protos.metrics.described import LATENCY, Described, Kind
from protos.metrics.instruments import Registry
from protos.metrics.snapshot import Labels

CALL_DURATION: Final = Described(
    "rpc.server.call.duration",
    Kind.HISTOGRAM,
    "s",
    "How long calls took, from their headers to their status; of a stream, all of it.",
    (tracing.RPC_METHOD, tracing.MODEL, tracing.VERSION_SERVED, tracing.LANE, tracing.RPC_STATUS),
    LATENCY,
)
DROPPED: Final = Described(
    "headrace.telemetry.dropped",
    Kind.COUNTER,
    "{item}",
    "What was to be told and is lost: spans, log lines, audit lines, or rounds of metrics.",
    (tracing.SIGNAL,),
)
CPU_TIME: Final = Described(
    "process.cpu.time",
    Kind.COUNTER,
    "s",
    "Processor time of the process, in user and system mode.",
    prometheus="process_cpu_seconds_total",
)
MEMORY: Final = Described(
    "process.memory.usage",
    Kind.GAUGE,
    "By",
    "Physical memory that the process holds.",
    prometheus="process_resident_memory_bytes",
)
_STATM: Final = Path("/proc/self/statm")  # https://man7.org/linux/man-pages/man5/proc_pid_statm.5.html


def of_process(registry: Registry) -> None:
    """Let the registry tell of the process itself."""
    registry.asked(DROPPED, _dropped)
    registry.asked(CPU_TIME, lambda: {(): time.process_time()})
    registry.asked(MEMORY, _memory)


def _dropped() -> Mapping[Labels, float]:
    return {(signal,): float(count) for signal, count in dropped.counts().items()}


def _memory() -> Mapping[Labels, float]:
    """Bytes; nothing where the system does not tell it in a file."""
    try:
        pages = int(_STATM.read_text(encoding="ascii").split()[1])
    except OSError:
        return {}
    return {(): float(pages * resource.getpagesize())}
