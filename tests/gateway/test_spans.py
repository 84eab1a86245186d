"""What the gateway's spans say, and of which calls there are any."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import pytest
from opentelemetry.proto.trace.v1 import trace_pb2

from protos import dropped
from protos import grpc_service_pb2 as pb
from protos.dropped import Signal
from tests.gateway import world as worlds
from tests.gateway.streams import answers, message, opened
from tests.gateway.test_service import refused
from tests.gateway.test_traces import CALLER, Sink, attributes, sink
from tests.gateway.world import INFER, World, failing

UNSAMPLED = CALLER.removesuffix("1") + "0"
Kind = trace_pb2.Span.SpanKind


def sent_to(traces: Sink, **more: Any) -> Callable[[dict[str, Any]], None]:
    return lambda config: config.update(telemetry={"otlp": traces.url, "sample": 0, **more})


async def slowly(message: bytes, context: grpc.aio.ServicerContext) -> bytes:
    await asyncio.sleep(0.05)
    return await worlds.echo(message, context)


async def lines(world: World, count: int) -> list[dict[str, Any]]:
    async with asyncio.timeout(10):
        while (text := (world.folder / "access.log").read_text()).count("\n") < count:
            await asyncio.sleep(0.01)
    return [json.loads(line) for line in text.splitlines()]


async def test_a_failure_that_nobody_sampled_is_kept_in_the_trace_that_its_worker_was_told(tmp_path: Path) -> None:
    async with sink() as traces, worlds.world(tmp_path, sent_to(traces, access_log="access.log")) as world:
        world.one.behaviour[INFER] = failing(grpc.StatusCode.INTERNAL, "broken")
        await world.infer(version="2")
        await refused(world.infer())
        ((_, server), (_, client)) = await traces.wait(2)
        told = str(dict(world.one.metadata[-1])["traceparent"])
        well, failed = await lines(world, 2)
    assert told == f"00-{server.trace_id.hex()}-{client.span_id.hex()}-02"
    assert (server.kind, client.kind) == (Kind.SPAN_KIND_SERVER, Kind.SPAN_KIND_CLIENT)
    assert (server.parent_span_id, client.parent_span_id) == (b"", server.span_id)
    assert attributes(client)["rpc.response.status_code"] == "INTERNAL"
    assert failed["trace_id"] == server.trace_id.hex()
    assert "trace_id" not in well
    assert len(traces.spans) == 2


async def test_a_slow_call_is_kept_in_its_callers_trace(tmp_path: Path) -> None:
    async with sink() as traces, worlds.world(tmp_path, sent_to(traces, slow="40ms")) as world:
        world.one.behaviour[INFER] = slowly
        await world.infer(metadata=[world.bearer(), ("traceparent", UNSAMPLED)])
        ((_, server), (_, client)) = await traces.wait(2)
    assert (server.trace_id.hex(), server.parent_span_id.hex()) == ("a1" * 16, "b2" * 8)
    assert client.parent_span_id == server.span_id
    assert float(str(attributes(server)["headrace.phase.upstream"])) >= 0.04
    assert "headrace.phase" not in attributes(server)
    assert client.end_time_unix_nano - client.start_time_unix_nano >= 4e7


async def test_a_flood_of_strangers_is_no_flood_of_spans(tmp_path: Path) -> None:
    before = dropped.counts()[Signal.SPANS_OVER_LIMIT]
    async with sink() as traces:
        async with worlds.world(tmp_path, sent_to(traces, sample=1.0)) as world:
            calls = [world.channel.unary_unary(INFER)(b"", timeout=20) for _ in range(400)]
            assert {(await refused(call)).reason for call in calls} == {"TOKEN_MISSING"}
            await world.infer()
        kept = [span for _, span in traces.spans if attributes(span).get("headrace.reason") == "TOKEN_MISSING"]
    assert 100 <= len(kept) < 300
    assert dropped.counts()[Signal.SPANS_OVER_LIMIT] - before == 400 - len(kept)
    assert {attributes(span)["headrace.phase"] for span in kept} == {"verify"}
    assert len(traces.spans) == len(kept) + 2


@pytest.mark.parametrize(
    ("asked", "phase"),
    [
        ({"model": "secret"}, "authorize"),
        ({"version": "9"}, "choose"),
        ({"scope": "none"}, "authorize"),
    ],
)
async def test_a_refusal_says_in_which_phase(tmp_path: Path, asked: dict[str, str], phase: str) -> None:
    async with sink() as traces, worlds.world(tmp_path, sent_to(traces)) as world:
        await refused(world.infer(**asked))
        ((_, server),) = await traces.wait(1)
    assert attributes(server)["headrace.phase"] == phase


async def test_what_limits_refuse_is_refused_on_admission(tmp_path: Path) -> None:
    def change(config: dict[str, Any]) -> None:
        sent_to(traces)(config)
        config["grants"][0]["limits"] = {"rate": "1/h"}

    async with sink() as traces, worlds.world(tmp_path, change) as world:
        await world.infer()
        assert (await refused(world.infer())).reason == "RATE_LIMITED"
        ((_, server),) = await traces.wait(1)
    assert attributes(server)["headrace.phase"] == "admit"


async def test_a_stream_is_one_span_with_its_messages_counted(tmp_path: Path) -> None:
    async with sink() as traces, worlds.world(tmp_path, sent_to(traces, sample=1.0)) as world:
        call = opened(world)
        for number in range(5):
            await call.write(message("digits", "canary" if number % 2 else "1"))
        await call.done_writing()
        assert len(await answers(call)) == 5
        spans = [span for _, span in await traces.wait(3)]
    (server,) = [span for span in spans if span.kind == Kind.SPAN_KIND_SERVER]
    clients = [span for span in spans if span.kind == Kind.SPAN_KIND_CLIENT]
    told = attributes(server)
    assert (told["headrace.stream.messages.received"], told["headrace.stream.messages.sent"]) == (5, 5)
    assert [span.parent_span_id for span in clients] == [server.span_id] * 2


async def test_what_a_failed_stream_notes_is_bounded(tmp_path: Path) -> None:
    async def fails(context: grpc.aio.ServicerContext) -> None:
        while (await context.read()) is not grpc.aio.EOF:
            await context.write(pb.ModelStreamInferResponse().SerializeToString())

    def change(config: dict[str, Any]) -> None:
        sent_to(traces)(config)
        config["models"][0] |= {"sequence": {}}

    async with sink() as traces, worlds.world(tmp_path, change) as world:
        for worker in world.workers.values():
            worker.streaming = fails
        call = opened(world)
        for number in range(100):
            request = pb.ModelInferRequest(model_name="digits")
            request.parameters["sequence_id"].int64_param = number + 1
            request.parameters["sequence_start"].bool_param = True
            await call.write(request.SerializeToString())
            assert await call.read() is not grpc.aio.EOF
        call.cancel()
        spans = [span for _, span in await traces.wait(65)]
    (server,) = [span for span in spans if span.kind == Kind.SPAN_KIND_SERVER]
    assert len(spans) == 65
    assert attributes(server)["headrace.hops.left_out"] == 36


async def test_of_claims_spans_tell_those_that_are_named_and_are_words_or_numbers(tmp_path: Path) -> None:
    named = ["team", "level", "flag", "list", "missing", "huge"]
    claims = {"team": "t" * 1000, "level": 7, "flag": True, "list": ["a"], "other": "no", "huge": 2**70}
    async with sink() as traces, worlds.world(tmp_path, sent_to(traces, sample=1.0, claims=named)) as world:
        await world.infer(**claims)
        ((_, server), (_, client)) = await traces.wait(2)
    told = {name: value for name, value in attributes(server).items() if name.startswith("headrace.claim.")}
    assert told == {"headrace.claim.team": "t" * 128, "headrace.claim.level": 7}
    assert not any(name.startswith("headrace.claim.") for name in attributes(client))


async def test_a_call_that_gRPC_tries_again_tells_its_worker_which_attempt_it_is(tmp_path: Path) -> None:  # noqa: N802
    attempts = []

    async def once(message: bytes, context: grpc.aio.ServicerContext) -> bytes:
        attempts.append(dict(context.invocation_metadata()).get("grpc-previous-rpc-attempts"))
        if len(attempts) == 1:
            await context.abort(grpc.StatusCode.UNAVAILABLE, "not now")
        return await worlds.echo(message, context)

    async with worlds.world(tmp_path) as world:
        world.one.behaviour[INFER] = once
        await world.infer(metadata=[world.bearer(), ("grpc-previous-rpc-attempts", "7")])
    assert attempts == [None, "1"]
