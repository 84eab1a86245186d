"""A snapshot as Prometheus's protobuf messages. Law: what text says is said here too; and native histograms besides.

Source: https://github.com/prometheus/client_model, io/prometheus/client/metrics.proto
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import accumulate
from typing import Final

from protos.metrics.described import Kind, label
from protos.metrics.snapshot import SCALE, ZERO, Distribution, Exemplar, Family, Labels, Snapshot, histograms, numbers
from protos.prometheus import metrics_pb2 as pb
from protos.varint import varint

_TYPES: Final = {Kind.COUNTER: pb.COUNTER, Kind.GAUGE: pb.GAUGE, Kind.HISTOGRAM: pb.HISTOGRAM}
_GAP: Final = 2  # empty buckets that cost less than the beginning of another span


def delimited(snapshot: Snapshot) -> bytes:
    """`MetricFamily` messages, each after its length as a varint."""
    written = (_family(family).SerializeToString() for family in snapshot.families if family.points)
    return b"".join(varint(len(message)) + message for message in written)


def _family(family: Family) -> pb.MetricFamily:
    described = family.described
    message = pb.MetricFamily(name=described.exposed, help=described.help, type=_TYPES[described.kind])
    names = [label(name) for name in described.labels]
    for labels, value in numbers(family).items():
        metric = message.metric.add(label=_pairs(names, labels))
        if described.kind is Kind.COUNTER:
            metric.counter.value = value
        else:
            metric.gauge.value = value
    for labels, distribution in histograms(family).items():
        message.metric.add(label=_pairs(names, labels), histogram=_histogram(distribution, described.bounds))
    return message


def _pairs(names: Sequence[str], labels: Labels) -> list[pb.LabelPair]:
    return [pb.LabelPair(name=name, value=value) for name, value in sorted(zip(names, labels, strict=True))]


def _histogram(distribution: Distribution, bounds: Sequence[float]) -> pb.Histogram:
    message = pb.Histogram(
        sample_count=distribution.count,
        sample_sum=distribution.sum,
        schema=SCALE,
        zero_threshold=ZERO,
        zero_count=distribution.zeros,
    )
    for place, (bound, below) in enumerate(zip((*bounds, float("inf")), accumulate(distribution.counts), strict=True)):
        bucket = message.bucket.add(cumulative_count=below, upper_bound=bound)
        if (exemplar := distribution.exemplars.get(place)) is not None:
            bucket.exemplar.CopyFrom(_exemplar(exemplar))
    before = 0
    for offset, counts in spans(distribution.powers):
        message.positive_span.add(offset=offset, length=len(counts))
        for count in counts:
            message.positive_delta.append(count - before)
            before = count
    if not message.positive_span:
        message.positive_span.add(offset=0, length=0)  # which tells a native histogram without anything from none
    return message


def spans(powers: Mapping[int, int]) -> Iterator[tuple[int, list[int]]]:
    """Buckets that stand together: how far after the last span's end, or from 0, and their counts."""
    end, offset, counts = 0, 0, list[int]()
    for index in sorted(powers):
        if counts and index - end <= _GAP:
            counts += [0] * (index - end)
        else:
            if counts:
                yield offset, counts
            offset, counts = index - end, []
        counts.append(powers[index])
        end = index + 1
    if counts:
        yield offset, counts


def _exemplar(exemplar: Exemplar) -> pb.Exemplar:
    message = pb.Exemplar(value=exemplar.value, label=[pb.LabelPair(name="trace_id", value=exemplar.trace_id)])
    message.timestamp.FromNanoseconds(int(exemplar.at * 1e9))
    return message
