"""A snapshot as Prometheus reads it. Law: the form is the one that whoever asks prefers, of those that there are.

Text 0.0.4 for everybody; OpenMetrics 1.0, which has exemplars; and Prometheus's protobuf messages, which have native
histograms besides. Sources: https://prometheus.io/docs/instrumenting/exposition_formats/ and
https://prometheus.io/docs/instrumenting/content_negotiation/
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import accumulate
from typing import Final

from prometheus_client import Metric, exposition
from prometheus_client.openmetrics import exposition as openmetrics
from prometheus_client.registry import Collector
from prometheus_client.samples import Exemplar as TheirExemplar

from protos.metrics import messages
from protos.metrics.described import label
from protos.metrics.snapshot import Distribution, Family, Snapshot, histograms, numbers

TEXT: Final = "text/plain; version=0.0.4; charset=utf-8"
OPENMETRICS: Final = "application/openmetrics-text; version=1.0.0; charset=utf-8"
PROTOBUF: Final = "application/vnd.google.protobuf; proto=io.prometheus.client.MetricFamily; encoding=delimited"
_BY_NAME: Final = {
    "text/plain": TEXT,
    "*/*": TEXT,
    "application/openmetrics-text": OPENMETRICS,
    "application/vnd.google.protobuf": PROTOBUF,
}


def exposed(snapshot: Snapshot, accept: str) -> tuple[str, bytes]:
    """The content type and the text, or the messages, for whoever sends this `Accept` header."""
    kind = preferred(accept)
    if kind == PROTOBUF:
        return kind, messages.delimited(snapshot)
    write = openmetrics.generate_latest if kind == OPENMETRICS else exposition.generate_latest
    return kind, write(_Told(snapshot))


def preferred(accept: str) -> str:
    """The content type that the header likes best; text where it knows none of ours."""
    best, liked = TEXT, 0.0
    for part in accept.split(","):
        name, *parameters = (word.strip() for word in part.split(";"))
        kind = _BY_NAME.get(name.lower())
        if kind is not None and (likes := _quality(parameters)) > liked:
            best, liked = kind, likes
    return best


def _quality(parameters: Sequence[str]) -> float:
    for parameter in parameters:
        name, _, value = parameter.partition("=")
        if name.strip().lower() == "q":
            try:
                return float(value)
            except ValueError:
                return 0.0
    return 1.0


class _Told(Collector):
    """What the library's writers take."""

    def __init__(self, snapshot: Snapshot) -> None:
        self._snapshot = snapshot

    def collect(self) -> Iterator[Metric]:
        """Each family that has numbers."""
        return (_metric(family) for family in self._snapshot.families if family.points)


def _metric(family: Family) -> Metric:
    described = family.described
    metric = Metric(described.family, described.help, described.kind.value)
    names = [label(name) for name in described.labels]
    for labels, value in numbers(family).items():
        metric.add_sample(described.exposed, dict(zip(names, labels, strict=True)), value)
    for labels, distribution in histograms(family).items():
        _add(metric, dict(zip(names, labels, strict=True)), distribution, described.bounds)
    return metric


def _add(metric: Metric, labels: dict[str, str], distribution: Distribution, bounds: Sequence[float]) -> None:
    for place, (bound, below) in enumerate(zip((*bounds, float("inf")), accumulate(distribution.counts), strict=True)):
        found = distribution.exemplars.get(place)
        exemplar = TheirExemplar({"trace_id": found.trace_id}, found.value, found.at) if found else None
        metric.add_sample(f"{metric.name}_bucket", labels | {"le": _written(bound)}, below, None, exemplar)
    metric.add_sample(f"{metric.name}_count", labels, distribution.count)
    metric.add_sample(f"{metric.name}_sum", labels, distribution.sum)


def _written(bound: float) -> str:
    return "+Inf" if bound == float("inf") else repr(float(bound))
