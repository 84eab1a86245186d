"""What is asked, as Jaeger's API and its page spell it."""

from __future__ import annotations

import pytest

from headrace.traces.query import MOST, Query, Unreadable, chosen, read
from headrace.traces.spans import Event
from tests.headrace.traces.some import BEGIN, MS, span

NOW = BEGIN + 10_000 * MS


def test_as_jaegers_page_asks() -> None:
    asked = [
        *(("end", "1700000005000000"), ("limit", "20"), ("lookback", "custom"), ("maxDuration", "1.5s")),
        *(("minDuration", "100us"), ("operation", "x"), ("service", "s"), ("start", "1700000000000000")),
        *(("tag", "a:b:c"), ("tags", '{"error":"true"}')),
    ]
    tags = {"a": "b:c", "error": "true"}
    assert read(asked, NOW) == Query("s", "x", BEGIN, BEGIN + 5000 * MS, 100_000, 1500 * MS, tags, 20)


def test_what_is_not_said_is_everything_until_now() -> None:
    assert read([("service", "s")], NOW) == Query("s", end=NOW)
    assert read([("service", "s"), ("lookback", "1m30s")], NOW).start == NOW - 90_000 * MS
    assert read([("service", "s"), ("limit", "99999")], NOW).limit == MOST


@pytest.mark.parametrize(
    "asked",
    [
        {"service": ""},
        {"limit": "-1"},
        {"limit": "\u0661"},
        {"start": "x"},
        {"start": "1" * 5000},
        {"minDuration": "5"},
        {"minDuration": "5 s"},
        {"minDuration": "1s" + "x" * 1000},
        {"lookback": "1y"},
        {"tag": "novalue"},
        {"tags": "{"},
        {"tags": "[" * 100_000},
        {"tags": '{"a":1}'},
    ],
)
def test_what_cannot_be_read_is_told(asked: dict[str, str]) -> None:
    with pytest.raises(Unreadable):
        read(list({"service": "s", **asked}.items()), NOW)


SPAN = span(
    "11", start=5, end=25, attributes={"i": 4, "b": True}, events=(Event("verified", BEGIN, {"n": 1}),), error=True
)


@pytest.mark.parametrize(
    "wanted",
    [
        Query("headrace-gateway"),
        Query("headrace-gateway", operation=SPAN.name),
        Query("headrace-gateway", start=BEGIN + 5 * MS, end=BEGIN + 5 * MS),
        Query("headrace-gateway", shortest=20 * MS, longest=20 * MS),
        Query("headrace-gateway", tags={"i": "4", "b": "true", "span.kind": "server", "error": "true"}),
        Query("headrace-gateway", tags={"event": "verified", "n": "1"}),
    ],
)
def test_a_span_that_is_wanted(wanted: Query) -> None:
    assert chosen([[span("22", service="other"), SPAN]], wanted)


@pytest.mark.parametrize(
    "wanted",
    [
        Query("other"),
        Query("headrace-gateway", operation="x"),
        Query("headrace-gateway", start=BEGIN + 5 * MS + 1),
        Query("headrace-gateway", end=BEGIN + 5 * MS - 1),
        Query("headrace-gateway", shortest=20 * MS + 1),
        Query("headrace-gateway", longest=20 * MS - 1),
        Query("headrace-gateway", tags={"i": "5"}),
        Query("headrace-gateway", tags={"none": ""}),
        Query("headrace-gateway", limit=0),
    ],
)
def test_a_span_that_is_not(wanted: Query) -> None:
    assert not chosen([[SPAN]], wanted)


def test_the_latest_come_first_and_the_others_not() -> None:
    traces = [[span("11", start=at, end=at + 1)] for at in (3, 9, 1, 7)]
    found = chosen(traces, Query("headrace-gateway", limit=3))
    assert [(spans[0].start - BEGIN) // MS for spans in found] == [9, 7, 3]
