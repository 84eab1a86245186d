"""What every process tells of itself."""

from __future__ import annotations

import time

import psutil

from protos import dropped
from protos.metrics.common import CPU_TIME, DROPPED, MEMORY, of_process
from protos.metrics.instruments import Registry
from protos.metrics.snapshot import told


def test_a_process_tells_of_itself() -> None:
    registry = Registry(time.time)
    of_process(registry)
    before = dropped.counts().get("metrics", 0)
    dropped.count("metrics")
    families = registry.snapshot().families
    used = psutil.Process().cpu_times()
    assert 0 < told(families, CPU_TIME)[()] <= used.user + used.system + 0.1
    assert 0.5 < told(families, MEMORY)[()] / psutil.Process().memory_info().rss < 2
    assert told(families, DROPPED)["metrics",] == before + 1
    assert (CPU_TIME.exposed, MEMORY.exposed) == ("process_cpu_seconds_total", "process_resident_memory_bytes")
