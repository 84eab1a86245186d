"""What an instrument is called and counts. Law: its name is OpenTelemetry's; Prometheus's follows from that.

Source: https://opentelemetry.io/docs/specs/otel/compatibility/prometheus_and_openmetrics/
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Final

LATENCY: Final = (
    *(0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.075),
    *(0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0, 30.0),
)
"""Bounds of durations in seconds: those of OpenTelemetry's RPC conventions, and more below and above."""
SIZES: Final = tuple(float(2**power) for power in range(11))
"""Bounds of batches: 1, 2, 4, to 1024."""

_UNITS: Final[Mapping[str, str]] = {"s": "seconds", "By": "bytes", "1": "ratio"}


class Kind(Enum):
    """What is counted: what only grows, what is so now, or how large each of many was."""

    COUNTER = "counter"
    GAUGE = "gauge"
    HISTOGRAM = "histogram"


@dataclass(frozen=True, slots=True)
class Described:
    """One instrument. `unit` is UCUM's: `s`, `By`, `1`, or `{call}` for a count of those.

    `labels` are names of attributes; `bounds` are of a histogram; `prometheus` is its name there where that does not
    follow from the other.
    """

    name: str
    kind: Kind
    unit: str
    help: str
    labels: tuple[str, ...] = ()
    bounds: tuple[float, ...] = ()
    prometheus: str = ""

    @property
    def family(self) -> str:
        """Prometheus's name, without a counter's `_total`."""
        if self.prometheus:
            return self.prometheus.removesuffix("_total")
        name = self.name.replace(".", "_")
        unit = _UNITS.get(self.unit, "")
        if self.unit == "1" and self.kind is not Kind.GAUGE:
            unit = ""
        return name if not unit or name.endswith(f"_{unit}") else f"{name}_{unit}"

    @property
    def exposed(self) -> str:
        """The name by which queries find it; of a histogram, the beginning of its names."""
        return f"{self.family}_total" if self.kind is Kind.COUNTER else self.family


def label(attribute: str) -> str:
    """Prometheus's name of an attribute."""
    return attribute.replace(".", "_")
