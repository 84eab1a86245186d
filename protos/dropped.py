"""What of telemetry is lost. Law: whoever lets something go counts it here, and nothing else.

Signals are spans, metrics, logs, access_log and audit; a process has one count of each.
"""

from __future__ import annotations

from collections.abc import Mapping
from threading import Lock

_lock = Lock()
_counts: dict[str, int] = {}


def count(signal: str, number: int = 1) -> None:
    """So many more are lost. Any thread may say so."""
    with _lock:
        _counts[signal] = _counts.get(signal, 0) + number


def counts() -> Mapping[str, int]:
    """Signal -> how many were lost so far; without those of which none was."""
    with _lock:
        return dict(_counts)
