"""What Prometheus reads: its own library reads back what ours writes; its messages hold native histograms."""

from __future__ import annotations

import pytest
from google.protobuf.internal.decoder import _DecodeVarint32
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.openmetrics.parser import text_string_to_metric_families as read_openmetrics
from prometheus_client.parser import text_string_to_metric_families as read_text

from protos.metrics.described import Described, Kind
from protos.metrics.instruments import Registry
from protos.metrics.messages import spans
from protos.metrics.prometheus import OPENMETRICS, PROTOBUF, TEXT, exposed, preferred
from protos.metrics.snapshot import Exemplar, Snapshot
from protos.prometheus import metrics_pb2 as pb
from tests.protos.metrics.test_instruments import CALLS, DEPTH, TIMES

TRACE = "0af7651916cd43dd8448eb211c80319c"


@pytest.fixture
def snapshot() -> Snapshot:
    made = Registry(lambda: 100.0)
    made.counter(CALLS).add(3, 'a"b\\c\nd', "python")
    times = made.histogram(TIMES)
    times.record(0.003, "python", exemplar=Exemplar(TRACE, 0.003, 99.5))
    times.record(0.004, "python")
    times.record(99.0, "python")
    times.record(0.0, "python")
    made.asked(DEPTH, dict)  # which has nothing to say
    return made.snapshot()


def messages(data: bytes) -> dict[str, pb.MetricFamily]:
    found, at = {}, 0
    while at < len(data):
        size, at = _DecodeVarint32(data, at)
        family = pb.MetricFamily.FromString(data[at : at + size])
        found[family.name] = family
        at += size
    return found


def test_text(snapshot: Snapshot) -> None:
    kind, text = exposed(snapshot, "")
    assert kind == TEXT
    families = {family.name: family for family in read_text(text.decode())}
    assert set(families) == {"headrace_calls", "headrace_call_duration_seconds"}
    (calls,) = families["headrace_calls"].samples
    assert calls.name == "headrace_calls_total" and calls.value == 3
    assert calls.labels == {"headrace_model_name": 'a"b\\c\nd', "headrace_lane": "python"}
    buckets = {s.labels.get("le"): s.value for s in families["headrace_call_duration_seconds"].samples}
    assert (buckets["0.0025"], buckets["0.005"], buckets["30.0"], buckets["+Inf"]) == (1, 3, 3, 4)


def test_openmetrics_has_exemplars(snapshot: Snapshot) -> None:
    kind, text = exposed(snapshot, "application/openmetrics-text;version=1.0.0,text/plain;q=0.5")
    assert kind == OPENMETRICS
    families = {family.name: family for family in read_openmetrics(text.decode())}
    exemplars = [s.exemplar for s in families["headrace_call_duration_seconds"].samples if s.exemplar]
    assert [(e.labels, e.value, float(e.timestamp)) for e in exemplars] == [({"trace_id": TRACE}, 0.003, 99.5)]


def test_messages_have_both_forms_of_a_histogram(snapshot: Snapshot) -> None:
    kind, data = exposed(snapshot, "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;q=0.7")
    assert kind == PROTOBUF
    families = messages(data)
    assert families["headrace_calls_total"].type == pb.COUNTER
    assert families["headrace_calls_total"].metric[0].counter.value == 3
    histogram = families["headrace_call_duration_seconds"].metric[0].histogram
    assert (histogram.sample_count, histogram.zero_count, histogram.schema) == (4, 1, 3)
    assert [bucket.exemplar.label[0].value for bucket in histogram.bucket if bucket.HasField("exemplar")] == [TRACE]
    assert [bucket.cumulative_count for bucket in histogram.bucket][-1] == 4
    index, found = 0, {}
    deltas, count = iter(histogram.positive_delta), 0
    for span in histogram.positive_span:
        index += span.offset
        for _ in range(span.length):
            count += next(deltas)
            found[index] = count
            index += 1
    assert {index: n for index, n in found.items() if n} == {-67: 1, -63: 1, 54: 1}


@given(st.dictionaries(st.integers(-200, 200), st.integers(1, 50)))
def test_spans_hold_each_bucket_where_it_is(powers: dict[int, int]) -> None:
    index, found = 0, {}
    for offset, counts in spans(powers):
        index += offset
        for count in counts:
            found[index] = count
            index += 1
    assert {index: count for index, count in found.items() if count} == powers


@pytest.mark.parametrize(
    ("accept", "kind"),
    [
        ("", TEXT),
        ("*/*", TEXT),
        ("application/json", TEXT),
        ("text/html, application/openmetrics-text;q=0.3", OPENMETRICS),
        ("text/plain;version=0.0.4;q=0.5,application/openmetrics-text;version=1.0.0", OPENMETRICS),
        ("application/vnd.google.protobuf;encoding=delimited,text/plain;q=0.9", PROTOBUF),
        ("application/vnd.google.protobuf;q=x,text/plain;q=0.1", TEXT),
    ],
)
def test_who_asks_chooses_the_form(accept: str, kind: str) -> None:
    assert preferred(accept) == kind


@pytest.mark.parametrize(
    ("name", "kind", "unit", "exposed"),
    [
        ("headrace.calls", Kind.COUNTER, "{call}", "headrace_calls_total"),
        ("rpc.server.call.duration", Kind.HISTOGRAM, "s", "rpc_server_call_duration_seconds"),
        ("hw.gpu.utilization", Kind.GAUGE, "1", "hw_gpu_utilization_ratio"),
        ("hw.gpu.memory.usage", Kind.GAUGE, "By", "hw_gpu_memory_usage_bytes"),
        ("headrace.jwks.age.seconds", Kind.GAUGE, "s", "headrace_jwks_age_seconds"),
    ],
)
def test_names_follow_from_opentelemetrys(name: str, kind: Kind, unit: str, exposed: str) -> None:
    assert Described(name, kind, unit, "").exposed == exposed


def test_a_name_may_be_prometheuss_own() -> None:
    assert Described("a", Kind.COUNTER, "s", "", prometheus="process_cpu_seconds_total").exposed == (
        "process_cpu_seconds_total"
    )
