"""Calls that the lane carries are traced where they fail or are slow, though nobody has sampled them."""

from __future__ import annotations

import asyncio
import json
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any

import grpc
import pytest
from opentelemetry.proto.trace.v1 import trace_pb2

from mesh.local import process
from tests.envoy import needs_envoy
from tests.gateway import world as worlds
from tests.gateway.test_service import refused
from tests.gateway.test_traces import CALLER, Sink, attributes, sink
from tests.gateway.world import INFER, World, failing
from tests.headrace.test_express import by_the_lane, infer

pytestmark = needs_envoy

UNSAMPLED = CALLER.removesuffix("1") + "0"
Kind = trace_pb2.Span.SpanKind
Spans = tuple[trace_pb2.Span, trace_pb2.Span]


@pytest.fixture(autouse=True)
def _soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process, "_FLUSH", (process._FLUSH[0], "20"))


def world_of(folder: Path, traces: Sink, **more: Any) -> AbstractAsyncContextManager[World]:
    told = {"otlp": traces.url, "sample": 0, "access_log": "access.log", **more}
    return worlds.world(folder, lambda config: config.update(telemetry=told), express=True)


async def by_lane(traces: Sink) -> Spans:
    """The two spans of the one carried call."""
    count = 0
    while True:
        count += 1
        spans = [span for _, span in await traces.wait(count)]
        for server in spans:
            below = [span for span in spans if span.parent_span_id == server.span_id]
            if attributes(server).get("headrace.lane") == "express" and below:
                return server, below[0]


async def trace_ids(world: World, request_id: object) -> list[object]:
    """What the access log's one line of the call says."""
    while True:
        text = (world.folder / "access.log").read_text()
        found = [json.loads(line) for line in text[: text.rfind("\n") + 1].splitlines()]
        if ours := [line for line in found if line["headrace.request.id"] == request_id]:
            return [line.get("trace_id") for line in ours]
        await asyncio.sleep(0.02)


async def test_a_failure_is_kept_in_the_trace_that_its_worker_was_told(tmp_path: Path) -> None:
    async with sink() as traces, world_of(tmp_path, traces) as world:
        await by_the_lane(world, lambda: infer(world))
        well = dict(world.one.metadata[-1])["x-request-id"]
        world.one.behaviour[INFER] = failing(grpc.StatusCode.INTERNAL, "broken")
        assert (await by_the_lane(world, lambda: refused(infer(world)))).reason == "INTERNAL"
        told = dict(world.one.metadata[-1])
        async with asyncio.timeout(10):
            server, client = await by_lane(traces)
            assert await trace_ids(world, told["x-request-id"]) == [server.trace_id.hex()]
            assert await trace_ids(world, well) == [None]
        by_python = [span for _, span in traces.spans if attributes(span).get("headrace.lane") == "python"]
    assert told["traceparent"] == f"00-{server.trace_id.hex()}-{client.span_id.hex()}-00"
    assert (server.kind, client.kind) == (Kind.SPAN_KIND_SERVER, Kind.SPAN_KIND_CLIENT)
    assert not server.parent_span_id
    assert server.start_time_unix_nano <= client.start_time_unix_nano < client.end_time_unix_nano
    assert client.end_time_unix_nano <= server.end_time_unix_nano
    said = attributes(server)
    assert (said["headrace.reason"], said["rpc.response.status_code"]) == ("INTERNAL", "INTERNAL")
    assert (said["headrace.caller"], said["headrace.model.name"]) == ("tester@https://id.example/", "digits")
    assert said["headrace.request.id"] == told["x-request-id"]
    assert attributes(client)["server.address"] == "digits.models.svc:8001"
    assert all(attributes(span)["rpc.response.status_code"] != "OK" for span in by_python)
    assert server.status.code == client.status.code == trace_pb2.Status.STATUS_CODE_ERROR


async def test_a_slow_call_is_kept_in_its_callers_trace_and_a_quick_one_is_not(tmp_path: Path) -> None:
    async def slowly(message: bytes, context: grpc.aio.ServicerContext) -> bytes:
        await asyncio.sleep(0.3)
        return await worlds.echo(message, context)

    more = (("traceparent", UNSAMPLED), ("tracestate", "a=1"))
    async with sink() as traces, world_of(tmp_path, traces, slow="200ms") as world:
        await by_the_lane(world, lambda: infer(world, more=more))
        quick = dict(world.one.metadata[-1])
        world.one.behaviour[INFER] = slowly
        await by_the_lane(world, lambda: infer(world, more=more))
        told = dict(world.one.metadata[-1])
        async with asyncio.timeout(10):
            server, client = await by_lane(traces)
            assert await trace_ids(world, told["x-request-id"]) == ["a1" * 16]
            await by_the_lane(world, lambda: infer(world))
            begun = dict(world.one.metadata[-1])
            assert await trace_ids(world, begun["x-request-id"]) == [str(begun["traceparent"])[3:35]]
    assert (server.trace_id.hex(), server.parent_span_id.hex()) == ("a1" * 16, "b2" * 8)
    assert told["traceparent"] == f"00-{'a1' * 16}-{client.span_id.hex()}-00"
    assert quick["traceparent"] != told["traceparent"] != UNSAMPLED
    assert told["tracestate"] == "a=1"
    assert server.status.code == trace_pb2.Status.STATUS_CODE_UNSET
    assert client.end_time_unix_nano - client.start_time_unix_nano >= 2.9e8


async def test_a_call_that_the_lane_tries_again_tells_its_worker_which_attempt_it_is(tmp_path: Path) -> None:
    attempts = []

    async def once(message: bytes, context: grpc.aio.ServicerContext) -> bytes:
        attempts.append(dict(context.invocation_metadata())["x-envoy-attempt-count"])
        if attempts[-1] == "1":
            await context.abort(grpc.StatusCode.UNAVAILABLE, "not now")
        return await worlds.echo(message, context)

    async with worlds.world(tmp_path, express=True) as world:
        await by_the_lane(world, lambda: infer(world))
        world.one.behaviour[INFER] = once
        await infer(world, more=(("x-envoy-attempt-count", "7"),))
    assert attempts == ["1", "2"]
