"""What is made of an export, also of one that is meant to do harm."""

from __future__ import annotations

import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, ArrayValue, KeyValue, KeyValueList
from opentelemetry.proto.trace.v1.trace_pb2 import Span as OtlpSpan
from opentelemetry.proto.trace.v1.trace_pb2 import Status

from headrace.traces.otlp import LARGEST, MOST, NotOtlp, read
from headrace.traces.spans import Event, Link
from tests.headrace.traces.some import BEGIN, MS, TRACE, otlp, pair, request


def length(body: bytes) -> bytes:
    """A message of protobuf's, as field 1's contents are written."""
    size, encoded = len(body), b""
    while size > 0x7F:
        encoded += bytes([size & 0x7F | 0x80])
        size >>= 7
    return encoded + bytes([size]) + body


def test_a_span_is_read_with_all_that_it_says() -> None:
    sent = otlp(
        span_id=b"\x01" * 8,
        parent_span_id=b"\x02" * 8,
        kind=OtlpSpan.SPAN_KIND_CLIENT,
        attributes=[
            pair("a", "text"),
            KeyValue(key="i", value=AnyValue(int_value=-5)),
            KeyValue(key="d", value=AnyValue(double_value=0.5)),
            KeyValue(key="nan", value=AnyValue(double_value=float("nan"))),
            KeyValue(key="b", value=AnyValue(bool_value=True)),
            KeyValue(key="l", value=AnyValue(array_value=ArrayValue(values=[AnyValue(int_value=1)]))),
            KeyValue(key="m", value=AnyValue(kvlist_value=KeyValueList(values=[pair("x", "y")]))),
        ],
        events=[OtlpSpan.Event(name="verified", time_unix_nano=BEGIN + 5, attributes=[pair("k", "v")])],
        links=[OtlpSpan.Link(trace_id=b"\x03" * 16, span_id=b"\x04" * 8)],
        status=Status(code=Status.STATUS_CODE_ERROR, message="why"),
        dropped_events_count=3,
    )
    (span,) = read(request(sent).SerializeToString()).spans
    assert (span.trace, span.id, span.parent) == (TRACE, "01" * 8, "02" * 8)
    assert (span.service, span.name, span.kind, span.start, span.end) == (
        "a-service",
        "a span",
        "client",
        BEGIN,
        BEGIN + MS,
    )
    assert span.attributes == {"a": "text", "i": -5, "d": 0.5, "nan": "nan", "b": True, "l": "[1]"}
    assert span.events == (Event("verified", BEGIN + 5, {"k": "v"}),)
    assert span.links == (Link("03" * 16, "04" * 8),)
    assert (span.error, span.description, span.dropped) == (True, "why", 3)


def test_the_resource_may_come_after_its_spans() -> None:
    body = request(otlp()).resource_spans[0]
    resource, scopes = (length(part.SerializeToString()) for part in (body.resource, body.scope_spans[0]))
    (span,) = read(b"\x0a" + length(b"\x12" + scopes + b"\x0a" + resource)).spans
    assert span.service == "a-service"


@pytest.mark.parametrize(
    "spoilt",
    [
        otlp(trace_id=b""),
        otlp(trace_id=bytes(16)),
        otlp(trace_id=b"\x01" * 32),
        otlp(span_id=b""),
        otlp(span_id=bytes(8)),
        otlp(name="n" * LARGEST),
    ],
)
def test_what_is_no_span_is_counted_and_the_others_are_kept(spoilt: OtlpSpan) -> None:
    found = read(request(otlp(), spoilt, otlp()).SerializeToString())
    assert (len(found.spans), found.rejected) == (2, 1)


def test_a_span_that_cannot_be_unpacked_is_counted() -> None:
    body = b"\x0a" + length(b"\x12" + length(b"\x12" + length(b"\x2a\x02\xff\xfe")))  # a name that is no UTF-8
    assert read(body).rejected == 1


def test_what_is_too_much_of_a_span_is_cut_and_counted() -> None:
    sent = otlp(
        name="n" * 2000,
        attributes=[pair(f"k{number}" + "k" * 300, "é" * 2000) for number in range(10)]
        + [pair(f"j{number}", "") for number in range(MOST)],
        events=[OtlpSpan.Event(name="e")] * (MOST + 1),
        links=[OtlpSpan.Link()] * (MOST + 2),
        end_time_unix_nano=1,
    )
    (span,) = read(request(sent).SerializeToString()).spans
    assert (len(span.name), len(span.attributes), len(span.events), len(span.links)) == (256, MOST, MOST, MOST)
    assert span.dropped == 10 + 1 + 2
    assert max(map(len, span.attributes)) == 256
    assert max(len(str(value)) for value in span.attributes.values()) == 1024
    assert span.end == span.start


def test_a_bomb_of_empty_messages_is_refused_before_it_goes_off() -> None:
    empty = b"\x12\x00" * 1_000_000  # spans, two bytes each; 200 MB and more as messages
    body = b"\x0a" + length(b"\x12" + length(empty))
    tracemalloc.start()
    with pytest.raises(NotOtlp):
        read(body)
    assert tracemalloc.get_traced_memory()[1] < 20e6
    tracemalloc.stop()


@given(st.binary(max_size=200))
def test_no_bytes_do_harm(body: bytes) -> None:
    for whole in (body, b"\x0a" + length(body), b"\x0a" + length(b"\x12" + length(b"\x12" + length(body)))):
        try:
            found = read(whole)
        except NotOtlp:
            continue
        assert found.rejected >= 0


def test_what_protobuf_reads_as_empty_is_empty() -> None:
    assert read(ExportTraceServiceRequest().SerializeToString()).spans == []
