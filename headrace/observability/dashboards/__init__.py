"""Grafana's dashboards, one for each audience."""

from __future__ import annotations

from headrace.observability.dashboards.callers import callers
from headrace.observability.dashboards.gpus import gpus
from headrace.observability.dashboards.operators import operators
from headrace.observability.dashboards.owners import owners
from headrace.observability.panels import Dashboard
from headrace.observability.thresholds import Timing

__all__ = ["callers", "dashboards", "gpus", "operators", "owners"]


def dashboards(timing: Timing) -> list[Dashboard]:
    """All of them; that of GPUs is empty where there is none."""
    return [callers(), owners(timing), operators(), gpus()]
