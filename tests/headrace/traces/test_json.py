"""Jaeger's JSON: what we write is what we read, and what nobody's Jaeger writes is told."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from headrace.traces import read, written
from headrace.traces.spans import Event, Link, Span
from protos import tracing
from tests.headrace.traces.some import BEGIN, TRACE, span

SPANS = (
    span(
        "11",
        attributes={"i": 1, "big": 2**60, "low": -(2**60), "f": 0.5, "b": True, "s": "x"},
        events=(Event("verified", BEGIN, {"a": 1}),),
        links=(Link("b2" * 16, "33" * 8),),
    ),
    span("22", "11", service="worker-2", kind="internal", error=True, description="why"),
)


def told(*traces: Any) -> bytes:
    return json.dumps({"data": list(traces), "total": 0, "errors": None}).encode()


def test_what_is_written_is_what_is_read() -> None:
    assert read.traces(told(written.trace(SPANS))) == [list(SPANS)]


def test_large_numbers_are_texts_as_javascript_would_round_them() -> None:
    (first, _) = written.trace(SPANS)["spans"]
    assert {"key": "big", "type": "int64", "value": str(2**60)} in first["tags"]
    assert {"key": "i", "type": "int64", "value": 1} in first["tags"]


def test_what_went_missing_is_a_warning() -> None:
    (only,) = written.trace([span("11", dropped=3)])["spans"]
    assert only["warnings"] == ["3 attributes, events or links were dropped"]


def test_short_ids_are_whole_ones() -> None:
    """Jaeger leaves out the zeros of a trace id's first half."""
    body = written.trace([span("11", "22")])
    for one in (body["spans"][0], body["spans"][0]["references"][0]):
        one["traceID"] = "ab"
    ((found,),) = read.traces(told(body))
    assert (found.trace, found.parent) == ("ab".zfill(32), "22" * 8)


def test_only_a_parent_in_the_trace_is_one() -> None:
    body = written.trace([span("11", "22")])
    body["spans"][0]["references"][0]["traceID"] = "b2" * 16
    ((found,),) = read.traces(told(body))
    assert (found.parent, found.links) == ("", (Link("b2" * 16, "22" * 8),))


def spoilt(**more: Any) -> bytes:
    body = written.trace([span("11")])
    body["spans"][0] |= more
    return told(body)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"<html>hello</html>",
        b"[]",
        b"{}",
        b'{"data": 5}',
        b'{"data": [{}]}',
        b"[" * 100_000,
        b'{"data": "' + b"\xff" + b'"}',
        spoilt(spanID="../../x"),
        spoilt(startTime=-1),
        spoilt(startTime=2**80),
        spoilt(startTime="soon"),
        spoilt(tags=[{"key": "a", "value": {"b": []}}]),
        spoilt(processID="p9"),
    ],
)
def test_what_is_no_jaegers_is_told(body: bytes) -> None:
    with pytest.raises(read.NotJaeger) as failed:
        read.traces(body)
    assert len(str(failed.value)) < 200


@pytest.mark.parametrize("value", ["9" * 5000, "--5", 10**400])
def test_numbers_that_are_none_of_jaegers_are_texts(value: object) -> None:
    tag = {"key": tracing.QUEUE_TIME, "type": "int64", "value": value}
    ((found,),) = read.traces(spoilt(tags=[tag]))
    assert found.attributes == {tracing.QUEUE_TIME: str(value)}


def test_the_last_moment_that_otlp_knows_is_read() -> None:
    body = written.trace([replace(span("11"), start=2**64 - 1, end=2**64 - 1)])
    assert read.traces(told(body))


def test_nothing_is_nothing() -> None:
    assert read.traces(b'{"data": null, "errors": [{"code": 404, "msg": "trace not found"}]}') == []
    assert read.services(b'{"data": null}') == []
    assert read.services(b'{"data": ["a"]}') == ["a"]


def test_a_span_of_ours_has_what_a_reader_of_jaegers_needs() -> None:
    body = written.trace(SPANS)
    assert body["traceID"] == TRACE
    assert {process["serviceName"] for process in body["processes"].values()} == {"headrace-gateway", "worker-2"}
    assert isinstance(SPANS[0], Span)
