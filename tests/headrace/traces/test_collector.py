"""The collector as its senders and readers meet it: real gRPC, real HTTP, and what they may not do."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import AsyncIterator, Mapping
from typing import Any

import aiohttp
import grpc
import pytest
import pytest_asyncio
from opentelemetry.trace import Link, SpanKind, Status, StatusCode

from headrace.traces.api import application
from headrace.traces.collector import Collector, collecting
from headrace.traces.receiver import LARGEST
from headrace.traces.store import Store
from headrace.traces.tree import tree
from protos import tracing
from tests.headrace.traces.some import BEGIN, TRACE, exporter, otlp, pair, request, span


@pytest_asyncio.fixture
async def collector() -> AsyncIterator[Collector]:
    async with collecting(Store()) as running:
        yield running


async def asked(
    collector: Collector, path: str, host: str | None = None, method: str = "GET"
) -> tuple[int, Any, Mapping[str, str]]:
    headers = {"Host": host} if host is not None else {}
    url = collector.query + path
    async with aiohttp.ClientSession() as session, session.request(method, url, headers=headers) as response:
        body = await response.read()
        return response.status, json.loads(body) if body.startswith(b"{") else body, response.headers


async def test_spans_of_the_sdk_come_by_otlp_as_they_are(collector: Collector) -> None:
    provider = tracing.provider("a-service", collector.url)
    tracer = provider.get_tracer("test")
    with tracer.start_as_current_span("outer", kind=SpanKind.SERVER) as outer:
        outer.set_attributes({tracing.MODEL: "digits", tracing.BATCH_SIZE: 4, tracing.QUEUE_TIME: 0.5, "list": [1]})
        outer.add_event("verified")
        context = outer.get_span_context()
        with tracer.start_as_current_span("inner", kind=SpanKind.CLIENT, links=[Link(context)]) as inner:
            inner.set_status(Status(StatusCode.ERROR, "why"))
    trace_id = f"{context.trace_id:032x}"
    waiting = asyncio.create_task(
        collector.until(lambda: collector.store.trace(trace_id), lambda found: len(found) == 2, wait=10)
    )
    try:
        await asyncio.to_thread(provider.force_flush)
        first, second = tree(await waiting)
    finally:
        await asyncio.to_thread(provider.shutdown)
    assert (first.span.name, first.span.kind, first.span.service, first.span.parent) == (
        "outer",
        "server",
        "a-service",
        "",
    )
    assert first.span.attributes == {
        tracing.MODEL: "digits",
        tracing.BATCH_SIZE: 4,
        tracing.QUEUE_TIME: 0.5,
        "list": "[1]",
    }
    assert [event.name for event in first.span.events] == ["verified"]
    assert (second.depth, second.span.kind, second.span.error, second.span.description) == (1, "client", True, "why")
    assert [link.span for link in second.span.links] == [first.span.id]
    assert first.span.start <= second.span.start <= second.span.end <= first.span.end


async def test_what_never_comes_is_not_waited_for_without_end(collector: Collector) -> None:
    assert await collector.until(lambda: collector.store.trace(TRACE), bool, wait=0.05) == ()


def send(collector: Collector, body: bytes, **more: Any) -> Any:
    with exporter(collector.url) as export:
        return export(body, **more)


async def test_what_is_left_out_is_told_to_the_sender(collector: Collector) -> None:
    body = request(otlp(), otlp(trace_id=b"")).SerializeToString()
    answer = await asyncio.to_thread(send, collector, body)
    assert answer.partial_success.rejected_spans == 1
    assert answer.partial_success.error_message
    assert not (await asyncio.to_thread(send, collector, request(otlp()).SerializeToString())).HasField(
        "partial_success"
    )
    assert len(collector.store.trace(TRACE)) == 2


@pytest.mark.parametrize(
    ("body", "compression", "status"),
    [
        (b"\xff\xff", None, grpc.StatusCode.INVALID_ARGUMENT),
        (b"\x00" * (LARGEST + 1), None, grpc.StatusCode.RESOURCE_EXHAUSTED),
        (b"\x0a\x00" * (8 * LARGEST), grpc.Compression.Gzip, grpc.StatusCode.RESOURCE_EXHAUSTED),
    ],
)
async def test_absurd_exports_are_refused_and_others_taken_still(
    collector: Collector, body: bytes, compression: grpc.Compression | None, status: grpc.StatusCode
) -> None:
    with pytest.raises(grpc.RpcError) as failed:
        await asyncio.to_thread(send, collector, body, compression=compression)
    assert failed.value.code() is status
    await asyncio.to_thread(send, collector, request(otlp()).SerializeToString())
    assert len(collector.store.trace(TRACE)) == 1


async def test_it_answers_as_jaeger_does(collector: Collector) -> None:
    spans = (
        span("11", attributes={tracing.MODEL: "digits"}),
        span("22", "11", service="worker-2", start=2, end=90, error=True),
        span("33", trace="b2" * 16, start=500, end=501),
    )
    collector.store.add(spans)
    status, body, headers = await asked(collector, "/api/services")
    assert (status, body["data"], body["errors"]) == (200, ["headrace-gateway", "worker-2"], None)
    assert headers["Content-Type"].startswith("application/json")
    found = (await asked(collector, f"/api/traces/{TRACE.upper()}"))[1]["data"]
    assert [trace["traceID"] for trace in found] == [TRACE]
    assert len(found[0]["spans"]) == 2

    async def ids(query: str) -> list[str]:
        return [trace["traceID"] for trace in (await asked(collector, f"/api/traces?{query}"))[1]["data"]]

    assert await ids("service=headrace-gateway") == ["b2" * 16, TRACE]
    assert await ids("service=headrace-gateway&limit=1") == ["b2" * 16]
    assert await ids("service=worker-2&tags=%7B%22error%22:%22true%22%7D&minDuration=80ms") == [TRACE]
    assert await ids("service=headrace-gateway&tag=headrace.model.name:letters") == []
    assert await ids(f"service=worker-2&start={BEGIN // 1000}&end={BEGIN // 1000 + 1}") == []


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/api/traces", 400),
        ("/api/traces?service=s&limit=x", 400),
        ("/api/traces/zz", 400),
        (f"/api/traces/{'0' * 33}", 400),
        ("/api/traces/00ff", 404),
        ("/api/traces/..%2f..%2fetc%2fpasswd", 400),
        ("/api/traces/a%00b", 400),
        ("/api/traces/%ff", 400),
        ("/../../etc/passwd", 404),
        ("/api/other", 404),
    ],
)
async def test_what_is_not_there_is_told_in_jaegers_form(collector: Collector, path: str, status: int) -> None:
    found, body, _ = await asked(collector, path)
    assert (found, body["data"], body["errors"][0]["code"]) == (status, None, status)


async def test_it_only_tells(collector: Collector) -> None:
    for method in ("POST", "PUT", "DELETE", "OPTIONS"):
        status, _, headers = await asked(collector, "/api/services", method=method)
        assert status == 405
        assert not any(name.lower().startswith("access-control") for name in headers)


@pytest.mark.parametrize(
    "host",
    ["evil.example", "evil.example:80", "127.0.0.1.evil.example", "10.0.0.1", "localhost.evil:1", "", "[::1", "[evil]"],
)
async def test_a_page_that_points_its_name_here_reads_nothing(collector: Collector, host: str) -> None:
    collector.store.add([span("11")])
    status, body, _ = await asked(collector, f"/api/traces/{TRACE}", host=host)
    assert (status, body["data"]) == (403, None)


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:1", "127.0.0.1:16686", "[::1]:5", "127.1.2.3"])
async def test_names_of_the_loopback_are_answered(collector: Collector, host: str) -> None:
    assert (await asked(collector, "/api/services", host=host))[0] == 200


async def test_a_collector_that_was_opened_answers_by_any_name() -> None:
    app = application(Store(), lambda: BEGIN, loopback=False)
    assert len(app.middlewares) == 1


async def test_an_address_that_is_taken_is_told_and_nothing_is_left() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        for addresses in ({"otlp": address}, {"query": address}):
            with pytest.raises(OSError, match=r"127\.0\.0\.1"):
                async with collecting(Store(), **addresses):
                    pass


async def test_exports_without_end_take_a_bounded_room() -> None:
    store = Store(1024 * 1024)
    async with collecting(store) as running:

        def flood() -> None:
            with exporter(running.url) as export:
                for number in range(60):
                    spans = [
                        otlp(trace_id=number.to_bytes(16, "big"), attributes=[pair("k", "v" * 900)]) for _ in range(20)
                    ]
                    spans[0].trace_id = b"\x01" * 16
                    export(request(*spans).SerializeToString())

        await asyncio.to_thread(flood)
    assert 5 < len(store.traces()) < 60
