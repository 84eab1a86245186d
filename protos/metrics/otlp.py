"""A snapshot by OTLP. Law: a collector that is slow or gone costs a thread that waits, and what was to be sent.

The messages are made and sent by OpenTelemetry's own exporter. Histograms go by their bounds: every collector takes
these.
"""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from threading import Event, Thread
from typing import Final

from opentelemetry.exporter.otlp.proto.grpc.metric_exporter import OTLPMetricExporter
from opentelemetry.sdk.metrics import Exemplar as TheirExemplar
from opentelemetry.sdk.metrics.export import (
    AggregationTemporality,
    Gauge,
    Histogram,
    HistogramDataPoint,
    Metric,
    MetricExportResult,
    MetricsData,
    NumberDataPoint,
    ResourceMetrics,
    ScopeMetrics,
    Sum,
)
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.util.instrumentation import InstrumentationScope

from protos import collector
from protos.complaints import Complaints
from protos.metrics.described import Kind
from protos.metrics.snapshot import Distribution, Exemplar, Family, Labels, Snapshot, histograms, numbers

log = logging.getLogger("headrace.metrics")

EVERY: Final = 15.0  # seconds
_LAST_WORDS: Final = 2.0  # seconds in which the last numbers are sent when the process ends


@contextlib.contextmanager
def sent(
    otlp: str, service: str, snapshot: Callable[[], Snapshot], lost: Callable[[], None], every: float = EVERY
) -> Iterator[None]:
    """While inside, and at the end once more, the numbers go to the collector (`http://HOST:PORT`) every so often.

    `lost` is called for each time that they could not be sent; a collector that takes none loses none. `snapshot` may
    raise TimeoutError: nobody tells them.
    """
    exporter = OTLPMetricExporter(**collector.options(otlp))
    over = Event()
    resource = Resource.create({"service.name": service})
    complaints = Complaints(log, time.monotonic, 60.0)
    takes = collector.Takes(otlp, collector.METRICS, "metrics", log, time.monotonic)
    taken = False  # the last time: then it need not be asked

    def send() -> None:
        nonlocal taken
        if not taken and takes.none():
            return
        try:
            numbers = snapshot()
        except TimeoutError:
            lost()
            complaints.warn("late", "metrics are not sent: they could not be told in time")
            return
        done = exporter.export(metrics_data(numbers, resource), timeout_millis=collector.WITHIN * 1000)
        taken = done is MetricExportResult.SUCCESS
        if not taken:
            lost()
            complaints.warn("lost", f"metrics cannot be sent to {otlp}")

    def keep_sending() -> None:
        while not over.wait(every):
            send()
        send()

    thread = Thread(target=keep_sending, name="metrics", daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join(_LAST_WORDS)
        exporter.shutdown(timeout_millis=0)


def metrics_data(snapshot: Snapshot, resource: Resource) -> MetricsData:
    """The snapshot as OpenTelemetry's exporters take it."""
    metrics = [_metric(family, snapshot) for family in snapshot.families if family.points]
    scope = ScopeMetrics(InstrumentationScope("headrace"), metrics, "")
    return MetricsData([ResourceMetrics(resource, [scope], "")])


def _metric(family: Family, snapshot: Snapshot) -> Metric:
    described = family.described
    since, at = int(snapshot.since * 1e9), int(snapshot.at * 1e9)
    all_since = AggregationTemporality.CUMULATIVE
    data: Sum | Gauge | Histogram
    if described.kind is Kind.HISTOGRAM:
        points = [
            _of_many(distribution, described.bounds, _attributes(described.labels, labels), since, at)
            for labels, distribution in histograms(family).items()
        ]
        data = Histogram(points, all_since)
    else:
        told = [
            NumberDataPoint(_attributes(described.labels, labels), since, at, value)
            for labels, value in numbers(family).items()
        ]
        data = Sum(told, all_since, is_monotonic=True) if described.kind is Kind.COUNTER else Gauge(told)
    return Metric(described.name, described.help, described.unit, data)


def _attributes(names: Sequence[str], labels: Labels) -> Mapping[str, str]:
    return {name: value for name, value in zip(names, labels, strict=True) if value}


def _of_many(
    distribution: Distribution, bounds: Sequence[float], attributes: Mapping[str, str], since: int, at: int
) -> HistogramDataPoint:
    return HistogramDataPoint(
        attributes=attributes,
        start_time_unix_nano=since,
        time_unix_nano=at,
        count=distribution.count,
        sum=distribution.sum,
        bucket_counts=list(distribution.counts),
        explicit_bounds=list(bounds),
        min=None,  # type: ignore[arg-type]  # is not kept, and need not be told
        max=None,  # type: ignore[arg-type]  # the same
        exemplars=[_exemplar(exemplar) for exemplar in distribution.exemplars.values()],
    )


def _exemplar(exemplar: Exemplar) -> TheirExemplar:
    return TheirExemplar(
        filtered_attributes={},
        value=exemplar.value,
        time_unix_nano=int(exemplar.at * 1e9),
        trace_id=int(exemplar.trace_id, 16),
        span_id=0,  # without one the exporter would leave out the trace, too
    )
