"""What was to be told and never will be. Law: each signal counts what it loses, here, from any thread.

Of this process alone; what makes metrics reads it.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from threading import Lock
from typing import Final


class Signal(StrEnum):
    """What is counted: the label `headrace_signal` of `headrace.telemetry.dropped`."""

    SPANS = "spans"
    SPANS_OVER_LIMIT = "spans_over_limit"
    """Of calls that nobody sampled, but that failed or were slow, as others at the same time (`protos.spans`)."""
    METRICS = "metrics"
    LOGS = "logs"
    ACCESS_LOG = "access_log"
    AUDIT = "audit"


_lock: Final = Lock()
_counts: Final = dict.fromkeys(Signal, 0)


def add(signal: Signal, count: int = 1) -> None:
    """So many more of the signal's spans, points or lines are lost."""
    with _lock:
        _counts[signal] += count


def counts() -> Mapping[Signal, int]:
    """How many of each are lost since the process began."""
    with _lock:
        return dict(_counts)
