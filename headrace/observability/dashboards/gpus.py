"""For those whose workers have GPUs. Law: it tells whether they are busy, and have room."""

from __future__ import annotations

from headrace.observability import series
from headrace.observability.dashboards.asked import legend
from headrace.observability.panels import Dashboard, Panel, Query, Row, Variable, matching

_WORKER = Variable("instance", "Worker", series.GPU_UTILIZATION, "instance")
_EACH = ("instance", "hw_id", "hw_name")


def gpus() -> Dashboard:
    """By worker."""
    these = matching(_WORKER)
    used, limit = (series.where(name, these) for name in (series.GPU_USED, series.GPU_LIMIT))
    panels = [
        Panel(
            "Busy",
            "Share of the time in which the GPU computes.",
            "percentunit",
            [Query(series.where(series.GPU_UTILIZATION, these), legend(*_EACH))],
            most=1.0,
        ),
        Panel("Memory in use", "Of each GPU.", "bytes", [Query(used, legend(*_EACH))]),
        Panel(
            "Memory, as a share", "Of each GPU.", "percentunit", [Query(f"{used} / {limit}", legend(*_EACH))], most=1.0
        ),
    ]
    words = "For those whose workers have GPUs."
    return Dashboard("headrace-gpus", "headrace: GPUs", words, [_WORKER], [Row("GPUs", panels)])
