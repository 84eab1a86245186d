"""What is kept, and what has to go."""

from __future__ import annotations

import gc
import tracemalloc
from dataclasses import replace

from headrace.traces.spans import Event, Link, Span
from headrace.traces.store import Store, weight_of
from tests.headrace.traces.some import span


def of_trace(number: int, at: str = "11", **more: object) -> Span:
    return replace(span(at), trace=f"{number:032x}", **more)


def test_the_oldest_trace_goes_first_and_as_a_whole() -> None:
    each = weight_of(of_trace(0))
    store = Store(6 * each)
    store.add([of_trace(0), of_trace(1), of_trace(2), of_trace(3), of_trace(4)])
    store.add([of_trace(5), of_trace(6), of_trace(7)])
    assert [spans[0].trace for spans in store.traces()] == [f"{number:032x}" for number in (7, 6, 5, 4, 3, 2)]
    assert store.trace(f"{1:032x}") == ()
    large = Store(8 * each)
    large.add([of_trace(0), of_trace(0, "22"), *(of_trace(number) for number in range(1, 8))])
    assert large.trace(f"{0:032x}") == ()
    assert len(large.traces()) == 7


def test_a_span_that_is_sent_again_is_there_once() -> None:
    store = Store()
    store.add([span("11"), span("11"), span("11", kind="client")])
    assert len(store.trace(span("11").trace)) == 2


def test_a_trace_without_end_pushes_out_no_others() -> None:
    store = Store(100 * weight_of(of_trace(0)))
    store.add([of_trace(1)])
    store.add(of_trace(2, f"{number:016x}") for number in range(1000))
    assert len(store.trace(f"{1:032x}")) == 1
    assert len(store.trace(f"{2:032x}")) == 25
    assert store.dropped == 975


def test_services_go_with_their_spans() -> None:
    store = Store(4 * weight_of(of_trace(0, service="a")))
    store.add([of_trace(1, service="b"), of_trace(2, service="a"), of_trace(3, service="a")])
    assert store.services() == ["a", "b"]
    store.add(of_trace(number, service="a") for number in range(4, 9))
    assert store.services() == ["a"]


def test_a_store_takes_the_memory_that_it_was_given() -> None:
    room = 4 * 1024 * 1024
    store = Store(room)
    tracemalloc.start()
    for number in range(8_000):
        attributes: dict[str, str | int | float | bool] = {f"{number}{key}": f"{number}é" * 20 for key in range(8)}
        events = (Event(f"e{number}", number, {f"k{number}": f"v{number}"}),)
        links = (Link(f"{number:032x}", f"{number:016x}"),)
        store.add([of_trace(number, f"{number:016x}", attributes=attributes, events=events, links=links)])
    gc.collect()
    taken = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    assert room / 4 < taken < room
