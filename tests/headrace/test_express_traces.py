"""A call that the lane carries is traced as one that Python handles."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import grpc
import pytest
from opentelemetry.proto.trace.v1 import trace_pb2

from protos import tracing
from tests.envoy import needs_envoy
from tests.gateway import world as worlds
from tests.gateway.test_service import refused
from tests.gateway.test_traces import CALLER, Sink, attributes, sink
from tests.gateway.world import INFER, World, failing
from tests.headrace.test_express import MESSAGE, by_the_lane, carried, infer, with_parameter

pytestmark = needs_envoy

Kind = trace_pb2.Span.SpanKind
SERVED = "headrace.model.version.served"  # only Python reads answers


def sent_to(traces: Sink, sample: float) -> Any:
    return lambda config: config.update(telemetry={"otlp": traces.url, "sample": sample})


def of_lane(traces: Sink) -> list[trace_pb2.Span]:
    """Spans of calls that were carried, and their children."""
    ours = {span.trace_id for _, span in traces.spans if attributes(span).get("headrace.lane") == "express"}
    return sorted(
        (span for _, span in traces.spans if span.trace_id in ours), key=lambda span: span.start_time_unix_nano
    )


async def test_spans_are_those_of_the_python_lane(tmp_path: Path) -> None:
    async with sink() as traces:
        async with worlds.world(tmp_path, sent_to(traces, 1.0), express=True) as world:
            await by_the_lane(world, lambda: infer(world))
            told = dict(world.one.metadata[-1])
            python = len(world.one.calls)
            await infer(world, with_parameter())
            server, client = (await until_exported(world, traces))[:2]
        names = {service for service, span in traces.spans}
    assert names == {"headrace-gateway"}
    assert (server.kind, client.kind) == (Kind.SPAN_KIND_SERVER, Kind.SPAN_KIND_CLIENT)
    assert client.parent_span_id == server.span_id
    assert not server.parent_span_id
    assert told["traceparent"] == f"00-{server.trace_id.hex()}-{client.span_id.hex()}-01"
    by_python = next(
        span
        for _, span in traces.spans
        if attributes(span).get("headrace.lane") == "python" and span.kind == Kind.SPAN_KIND_SERVER
    )
    assert server.name == by_python.name
    assert python
    theirs, ours = attributes(by_python), attributes(server)
    assert {name for name in theirs if not name.startswith("headrace.phase.")} - {SERVED} <= set(ours)
    same = ("rpc.system.name", "rpc.method", "rpc.response.status_code", "headrace.caller", "headrace.model.name")
    assert [ours[name] for name in same] == [theirs[name] for name in same]
    assert ours["headrace.request.id"] == told["x-request-id"]
    assert ours["server.address"] == "digits.models.svc:8001"
    assert "rpc.response.status_code" not in attributes(client)  # rather than a wrong one


async def until_exported(world: World, traces: Sink) -> list[trace_pb2.Span]:
    """The spans of carried calls, once there are any."""
    count = 0
    while len(of_lane(traces)) < 2:
        count += 1
        await traces.wait(count)
    return of_lane(traces)


async def test_a_sampled_callers_trace_goes_on(tmp_path: Path) -> None:
    async with sink() as traces, worlds.world(tmp_path, sent_to(traces, 0), express=True) as world:
        await by_the_lane(world, lambda: infer(world, more=(("traceparent", CALLER), ("tracestate", "a=1"))))
        told = dict(world.one.metadata[-1])
        server, client = (await until_exported(world, traces))[-2:]
    assert (server.trace_id.hex(), server.parent_span_id.hex()) == ("a1" * 16, "b2" * 8)
    assert told["traceparent"] == f"00-{'a1' * 16}-{client.span_id.hex()}-01"
    assert told["tracestate"] == "a=1"


async def test_what_is_not_sampled_is_passed_on_so_and_leaves_nothing(tmp_path: Path) -> None:
    unsampled = CALLER.removesuffix("1") + "0"
    async with sink() as traces, worlds.world(tmp_path, sent_to(traces, 0), express=True, drains=True) as world:
        await by_the_lane(world, lambda: infer(world, more=(("traceparent", unsampled),)))
        handed_on = str(dict(world.one.metadata[-1])["traceparent"])  # under a span of ours, if there will be one
        assert (handed_on[:36], handed_on[52:]) == (unsampled[:36], "-00")
        await by_the_lane(world, lambda: infer(world))
        parent = str(dict(world.one.metadata[-1])["traceparent"])
        assert (len(parent), parent[-3:]) == (55, "-00")
    assert traces.spans == []


async def test_without_a_collector_the_callers_context_is_handed_on(tmp_path: Path) -> None:
    async with worlds.world(tmp_path, express=True) as world:
        await by_the_lane(world, lambda: infer(world, more=(("traceparent", CALLER), ("baggage", "a=1"))))
        told = dict(world.one.metadata[-1])
        assert told["traceparent"] == CALLER
        assert "baggage" not in told
        await by_the_lane(world, lambda: infer(world))
        assert "traceparent" not in dict(world.one.metadata[-1])


async def test_strangers_leave_no_spans_of_the_lanes(tmp_path: Path) -> None:
    async with sink() as traces, worlds.world(tmp_path, sent_to(traces, 0), express=True, drains=True) as world:
        call = world.channel.unary_unary(INFER)(MESSAGE, metadata=[("traceparent", CALLER)], timeout=10)
        assert (await refused(call)).reason == "TOKEN_MISSING"
    assert "a1" * 16 not in {span.trace_id.hex() for _, span in traces.spans}


async def test_failures_on_the_way_are_told_as_python_tells_them(tmp_path: Path) -> None:
    """By way of the hop of the sampled, too."""
    async with sink() as traces, worlds.world(tmp_path, sent_to(traces, 1.0), express=True) as world:
        await by_the_lane(world, lambda: infer(world))
        world.one.behaviour[INFER] = failing(grpc.StatusCode.UNAVAILABLE, "Exceeds maximum queue size")
        told = await by_the_lane(world, lambda: refused(infer(world)))
        assert (told.reason, told.retry_after) == ("OVERLOADED", 0.1)


async def test_a_dead_collector_costs_no_call(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tracing, "_LAST_WORDS", 0.2)
    dead = f"http://{worlds.unused_address()}"

    def change(config: dict[str, Any]) -> None:
        config["telemetry"] = {"otlp": dead, "sample": 1.0}

    async with worlds.world(tmp_path, change, express=True) as world:
        await by_the_lane(world, lambda: infer(world))
        before = await carried(world)
        for _ in range(50):
            await infer(world)
        assert await carried(world) - before == 50
