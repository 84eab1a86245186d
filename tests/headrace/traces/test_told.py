"""What a span says, in a reader's words and order."""

from __future__ import annotations

import pytest

from headrace.traces import told
from headrace.traces.spans import Event, Link, Span
from headrace.traces.summary import summary
from headrace.traces.tree import tree
from protos import tracing
from tests.headrace.traces.some import BEGIN, MS, TRACE, span


def said(*spans: Span) -> list[str]:
    places = tree(spans)
    return [told.of_place(places, at) for at in range(len(places))]


def test_it_is_said_in_a_readers_order_and_units() -> None:
    attributes = {
        tracing.QUEUE_TIME: 0.00123,
        tracing.BATCH_SIZE: 4,
        tracing.VERSION_ASKED: "canary",
        "headrace.new.one": 7,
        tracing.VERSION_SERVED: "2",
        tracing.CALLER: "",
        tracing.REQUEST_ID: "r",
        "other": 1,
    }
    assert said(span("11", attributes=attributes)) == [
        "asked for canary, served 2, batch of 4, queued 1.23 ms, new one 7"
    ]


def test_a_batch_of_one_is_none() -> None:
    assert said(span("11", attributes={tracing.BATCH_SIZE: 1})) == [""]


def test_what_is_said_above_is_not_said_again() -> None:
    above = span("11", attributes={tracing.MODEL: "digits", tracing.VERSION_ASKED: "canary"})
    between = span("22", "11")
    below = span("33", "22", attributes={tracing.MODEL: "digits", tracing.VERSION_ASKED: "2"})
    assert said(above, between, below) == ["model digits, asked for canary", "", "asked for 2"]


def test_events_and_links_are_told_but_not_without_end() -> None:
    events = tuple(Event(f"e{at}", BEGIN + at * MS) for at in range(10))
    links = (*(Link(f"{at}" * 32, "11" * 8) for at in range(9)), Link("0" * 32, "22" * 8))
    (words,) = said(span("11", events=events, links=links))
    assert words.startswith("events: e0 +0.00 ms; e1 +1.00 ms; ")
    assert "; e7 +7.00 ms; 2 more, linked to trace 000" in words
    assert words.endswith(f"; trace {'7' * 32}; 1 more")


def test_an_orphan_says_whom_it_misses() -> None:
    assert said(span("11", "22", dropped=2)) == [f"2 more that was dropped, its parent {'22' * 8} is not here"]


def test_nothing_moves_a_cursor_or_begins_a_line() -> None:
    nasty = "a\x1b[2J\nb\r\tc\x9b31m"
    one = span("11", service=nasty, name=nasty, attributes={tracing.MODEL: nasty, tracing.RPC_STATUS: nasty})
    for text in (*said(one), told.name(one), told.status(one), *summary([one]).services, summary([one]).model):
        assert not {"\x1b", "\n", "\r", "\t", "\x9b"} & set(text)


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("inference.GRPCInferenceService/ModelInfer", "ModelInfer"),
        ("GET /api/x", "GET /api/x"),
        ("ingress", "ingress"),
    ],
)
def test_a_method_is_known_by_its_name(name: str, shown: str) -> None:
    assert told.name(span("11", name=name)) == shown


def test_a_trace_in_a_line() -> None:
    caller = span("11", "", 0, 10, service="me", kind="client")
    gateway = span(
        "22", "11", 1, 9, attributes={tracing.RPC_STATUS: "OK", tracing.MODEL: "digits", tracing.REQUEST_ID: "r"}
    )
    worker = span("33", "22", 2, 12, service="worker-2", attributes={tracing.RPC_STATUS: "UNAVAILABLE"}, error=True)
    found = summary([worker, gateway, caller])
    assert (found.trace, found.began, found.duration, found.name) == (TRACE, BEGIN, 12 * MS, "ModelInfer")
    assert (found.services, found.model, found.status) == (("me", "headrace-gateway", "worker-2"), "digits", "OK")
    assert (found.errors, found.spans, found.requests) == (1, 3, ("r",))


@pytest.mark.parametrize(("nanoseconds", "shown"), [(0, "0.00 ms"), (1_234_000, "1.23 ms"), (61 * 10**9, "61.00 s")])
def test_durations(nanoseconds: int, shown: str) -> None:
    assert told.took(nanoseconds) == shown
