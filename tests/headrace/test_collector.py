from __future__ import annotations

import asyncio

from opentelemetry.trace import SpanKind

from headrace.demo.collector import Collector
from headrace.demo.spans import Span, tree
from protos import tracing


async def test_it_takes_what_an_exporter_sends() -> None:
    async with Collector().serving() as collector:
        provider = tracing.provider("a-service", collector.url)
        tracer = provider.get_tracer("test")
        with tracer.start_as_current_span("outer", kind=SpanKind.SERVER) as outer:
            outer.set_attributes({tracing.MODEL: "digits", tracing.BATCH_SIZE: 4, tracing.QUEUE_TIME: 0.5, "list": [1]})
            with tracer.start_as_current_span("inner", kind=SpanKind.CLIENT):
                pass
        trace_id = f"{outer.get_span_context().trace_id:032x}"
        try:
            waiting = asyncio.create_task(collector.trace(trace_id, 2, wait=10))
            await asyncio.to_thread(provider.force_flush)
            spans = await waiting
        finally:
            await asyncio.to_thread(provider.shutdown)
    (_, first), (depth, second) = tree(spans)
    assert (first.name, first.kind, first.service, first.parent) == ("outer", "server", "a-service", "")
    assert first.attributes == {tracing.MODEL: "digits", tracing.BATCH_SIZE: 4, tracing.QUEUE_TIME: 0.5}
    assert (depth, second.kind, second.parent, second.trace) == (1, "client", first.id, trace_id)
    assert first.start <= second.start <= second.end <= first.end


async def test_a_trace_that_never_comes_is_not_waited_for_without_end() -> None:
    async with Collector().serving() as collector:
        assert await collector.trace("0" * 32, 1, wait=0.05) == ()


def test_a_tree_has_parents_first_and_loses_no_span() -> None:
    def span(name: str, parent: str, start: int) -> Span:
        return Span("t", name, parent, "s", name, "server", start, start + 1)

    spans = [span("c", "a", 30), span("b", "a", 20), span("d", "b", 25), span("a", "", 10), span("z", "lost", 5)]
    assert [(depth, s.id) for depth, s in tree(spans)] == [(0, "z"), (0, "a"), (1, "b"), (2, "d"), (1, "c")]
