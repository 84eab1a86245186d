"""Trace context in metadata, and spans on their way to a collector."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from concurrent import futures
from contextlib import contextmanager
from queue import Queue

import grpc
import pytest
from opentelemetry.context import Context
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2 as collector
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2_grpc as collector_grpc
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, Status, StatusCode, get_current_span
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from protos import dropped, tracing
from protos.dropped import Signal
from protos.spans import Made, Spans, to
from protos.tracing import NOTHING
from tests.kept import Kept

TRACE, SPAN = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
PARENT = f"00-{TRACE}-{SPAN}-01"


@contextmanager
def _provider(otlp: str) -> Iterator[TracerProvider]:
    made = tracing.provider("test", otlp)
    try:
        yield made
    finally:
        made.shutdown()


def _spans(sample: float = 1.0) -> Spans:
    return Spans("test", Kept(InMemorySpanExporter()), sample=sample)


def test_a_callers_context_is_read() -> None:
    parent, drawn = tracing.extract([("authorization", "x"), ("traceparent", PARENT), ("tracestate", "a=1")])
    assert (f"{parent.trace_id:032x}", f"{parent.span_id:016x}", parent.trace_state.get("a")) == (TRACE, SPAN, "1")
    assert not drawn
    assert parent.is_remote
    assert parent.trace_flags.sampled


@pytest.mark.parametrize(
    "metadata",
    [
        [],
        [("x-other", "1")],
        [("traceparent", "nonsense")],
        [("traceparent", PARENT.encode())],
        [("tracestate", "a=1")],
        [("traceparent", PARENT), ("traceparent", PARENT)],
        [("traceparent", PARENT), ("traceparent", PARENT.replace("b7", "c8"))],
        [("traceparent", PARENT), ("tracestate", "a=1"), ("tracestate", "b=2")],
        [("traceparent", PARENT), ("baggage", "a=1"), ("baggage", "a=2")],
    ],
)
def test_none_unreadable_or_twice_is_no_context(metadata: list[tuple[str, str | bytes]]) -> None:
    assert tracing.extract(metadata) == NOTHING


@pytest.mark.parametrize(
    "parent",
    [
        PARENT,
        *(PARENT[:-2] + flags for flags in ("00", "02", "03", "ff", "0g", "1")),
        *(version + PARENT[2:] for version in ("01", "ff", "fe", "0", "000", "0x")),
        *(PARENT + more for more in ("-", "-more", " ", "x", "\n")),
        *(" " + PARENT, "01" + PARENT[2:] + "-more", PARENT.upper(), PARENT.replace("-", "_"), ""),
        *(f"00-{'0' * 32}-{SPAN}-01", f"00-{TRACE}-{'0' * 16}-01", f"00-{TRACE[1:]}-{SPAN}-01", "\u0660" + PARENT[1:]),
    ],
)
def test_a_parent_is_read_as_the_sdk_reads_it(parent: str) -> None:
    there = TraceContextTextMapPropagator().extract({"traceparent": parent}, Context())
    expected, found = get_current_span(there).get_span_context(), tracing.extract([("traceparent", parent)]).parent
    assert (found, found.is_remote) == (expected, expected.is_remote)


def test_what_is_told_on_is_extracted() -> None:
    spans = _spans()
    place = spans.begin(tracing.extract([("traceparent", PARENT), ("tracestate", "a=1")]))
    metadata = tracing.words(place.context)
    assert spans.begin(tracing.extract(metadata)).context.trace_id == int(TRACE, 16)
    assert dict(metadata) == {"traceparent": f"00-{TRACE}-{place.context.span_id:016x}-01", "tracestate": "a=1"}


@pytest.mark.parametrize(("flag", "sampled"), [("01", True), ("00", False)])
@pytest.mark.parametrize("sample", [0.0, 1.0])
def test_a_callers_sampled_flag_is_followed(flag: str, sample: float, *, sampled: bool) -> None:
    context = tracing.extract([("traceparent", f"00-{TRACE}-{SPAN}-{flag}")])
    assert _spans(sample).begin(context).sampled is sampled


@pytest.mark.parametrize("sample", [0.0, 1.0])
def test_of_traces_that_begin_here_a_share_is_sampled(sample: float) -> None:
    assert _spans(sample).begin(NOTHING).sampled is bool(sample)


@pytest.mark.parametrize(
    ("flags", "given_on"), [("00", "00"), ("02", "02"), (None, "02")], ids=["not sampled", "and random", "begins here"]
)
def test_what_is_not_sampled_is_still_a_trace(flags: str | None, given_on: str) -> None:
    own = [("traceparent", f"00-{TRACE}-{SPAN}-{flags}"), ("tracestate", "a=1")] if flags else []
    metadata = dict(tracing.words(_spans(0.0).begin(tracing.extract(own)).context))
    _, trace, parent, said = metadata["traceparent"].split("-")
    assert (trace == TRACE, said) == (bool(flags), given_on)
    assert int(trace, 16) > 0
    assert int(parent, 16) > 0
    assert parent != SPAN
    assert metadata.get("tracestate") == ("a=1" if flags else None)


def test_without_a_sender_the_callers_context_is_handed_on() -> None:
    place = Spans("test").begin(tracing.extract([("traceparent", PARENT)]))
    assert dict(tracing.words(place.context)) == {"traceparent": PARENT}
    assert tracing.words(Spans("test").begin(NOTHING).context) == []


def test_a_share_is_about_a_share() -> None:
    spans = _spans(0.2)
    assert 300 < sum(spans.begin(NOTHING).sampled for _ in range(2000)) < 500


class _Collector(collector_grpc.TraceServiceServicer):
    def __init__(self) -> None:
        self.received: Queue[collector.ExportTraceServiceRequest] = Queue()

    def Export(  # noqa: N802 - gRPC's name
        self, request: collector.ExportTraceServiceRequest, _: grpc.ServicerContext
    ) -> collector.ExportTraceServiceResponse:
        self.received.put(request)
        return collector.ExportTraceServiceResponse()


@pytest.fixture
def sink() -> Iterator[tuple[_Collector, str]]:
    """A collector, and its address."""
    made = _Collector()
    server = grpc.server(futures.ThreadPoolExecutor(1))
    collector_grpc.add_TraceServiceServicer_to_server(made, server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        yield made, f"http://127.0.0.1:{port}"
    finally:
        server.stop(None).wait()


def test_spans_that_are_made_when_they_are_sent_reach_a_collector(sink: tuple[_Collector, str]) -> None:
    """But for one that cannot be made, which takes no other with it."""
    spans, lost = to(sink[1], "test", "scope"), dropped.counts()[Signal.SPANS]
    places = [spans.begin(NOTHING) for _ in range(3)]
    for place, attributes in zip(places, ({tracing.MODEL: "one"}, "no mapping", {tracing.MODEL: "two"}), strict=True):
        spans.add(Made("call", SpanKind.SERVER, place, 1, 2, attributes, Status(StatusCode.UNSET)))
    spans.close()
    (resource_spans,) = sink[0].received.get(timeout=20).resource_spans
    told = [
        (span.name, span.span_id.hex(), span.attributes[0].value.string_value)
        for span in resource_spans.scope_spans[0].spans
    ]
    assert told == [("call", f"{places[at].context.span_id:016x}", model) for at, model in ((0, "one"), (2, "two"))]
    assert dropped.counts()[Signal.SPANS] - lost == 1


def test_spans_reach_a_collector(sink: tuple[_Collector, str]) -> None:
    with _provider(sink[1]) as provider:
        with provider.get_tracer("test").start_as_current_span("call") as span:
            span.set_attribute(tracing.MODEL, "digits")
        (resource_spans,) = sink[0].received.get(timeout=20).resource_spans
    names = {item.key: item.value.string_value for item in resource_spans.resource.attributes}
    (exported,) = resource_spans.scope_spans[0].spans
    assert (names["service.name"], exported.name) == ("test", "call")
    assert {item.key: item.value.string_value for item in exported.attributes} == {"headrace.model.name": "digits"}


@pytest.mark.parametrize("collector_kind", ["black_hole", "nobody"])
def test_a_dead_collector_blocks_no_call_and_no_end_and_what_is_lost_is_counted(
    collector_kind: str,
    request: pytest.FixtureRequest,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """5000 spans are more than the queue of 2048 holds; the SDK would try for half a minute to get rid of these."""
    monkeypatch.setattr(tracing, "_LAST_WORDS", 0.2)
    caplog.set_level(logging.CRITICAL)
    spans = Spans("test", tracing.sending(request.getfixturevalue(collector_kind)), tracing.resource("test"))
    slowest, lost = 0.0, dropped.counts()[Signal.SPANS]
    for _ in range(5000):
        started = time.perf_counter()
        place = spans.begin(NOTHING)
        spans.add(Made("call", SpanKind.SERVER, place, 1, 2, {}, Status(StatusCode.UNSET)))
        slowest = max(slowest, time.perf_counter() - started)
    started = time.perf_counter()
    spans.close()
    assert slowest < 1.0
    assert time.perf_counter() - started < 5.0
    assert dropped.counts()[Signal.SPANS] - lost == 5000
