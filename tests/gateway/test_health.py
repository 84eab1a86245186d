"""grpc.health.v1 at the gateway's door."""

import asyncio
import contextlib
from pathlib import Path

import grpc
import grpc.aio
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from protos import grpc_service_pb2 as pb
from tests.gateway import world as worlds
from tests.gateway.test_service import refused
from tests.gateway.world import SERVICE, World

Request, Response = health_pb2.HealthCheckRequest, health_pb2.HealthCheckResponse
READY = SERVICE + "ModelReady"


def ready(yes: bool):
    async def answer(_message: bytes, _context: grpc.aio.ServicerContext) -> bytes:
        return pb.ModelReadyResponse(ready=yes).SerializeToString()

    return answer


async def check(world: World, service: str, metadata: worlds.Metadata | None = None) -> int:
    stub = health_pb2_grpc.HealthStub(world.channel)
    sent = [world.bearer()] if metadata is None else metadata
    return (await stub.Check(Request(service=service), metadata=sent, timeout=5)).status


@pytest.mark.parametrize("service", ["", "inference.GRPCInferenceService"])
async def test_the_whole_needs_no_token(world: World, service: str) -> None:
    async with asyncio.timeout(5):
        while await check(world, service, []) != Response.SERVING:
            await asyncio.sleep(0.01)


async def test_a_model_is_as_ready_as_its_copies(world: World) -> None:
    world.one.behaviour[READY] = ready(True)
    assert await check(world, "digits") == Response.SERVING
    assert pb.ModelReadyRequest.FromString(world.one.calls[-1][1]) == pb.ModelReadyRequest(name="digits", version="1")
    world.one.behaviour[READY] = ready(False)
    assert await check(world, "digits") == Response.SERVING  # a look holds for a second
    async with asyncio.timeout(5):
        while await check(world, "digits") != Response.NOT_SERVING:
            await asyncio.sleep(0.05)
    assert len(world.one.calls) <= 3
    assert await check(world, "dead") == Response.NOT_SERVING


async def test_a_stranger_learns_nothing_of_models(world: World) -> None:
    told = [await refused(check(world, name, [])) for name in ("digits", "nowhere")]
    assert [each.reason for each in told] == ["TOKEN_MISSING"] * 2
    ungranted = [await refused(check(world, name)) for name in ("secret", "nowhere")]
    assert [(each.reason, each.text) for each in ungranted] == [("NOT_GRANTED", ungranted[0].text)] * 2
    assert (await refused(check(world, "ghost"))).status is grpc.StatusCode.NOT_FOUND


async def test_watch_tells_of_changes_and_goes_when_the_gateway_does(tmp_path: Path) -> None:
    async with contextlib.AsyncExitStack() as stack:
        world = await stack.enter_async_context(worlds.world(tmp_path, drains=True))
        async with grpc.aio.insecure_channel(world.address) as channel:
            watch = health_pb2_grpc.HealthStub(channel).Watch(Request(service=""))
            while (await watch.read()).status != Response.SERVING:
                pass
            leaving = asyncio.create_task(stack.aclose())
            assert (await asyncio.wait_for(watch.read(), 3)).status == Response.NOT_SERVING
            assert await asyncio.wait_for(watch.read(), 3) is grpc.aio.EOF
            await asyncio.wait_for(leaving, 3)


@pytest.mark.parametrize("method", ["Check", "Watch"])
async def test_long_and_slow_questions_are_refused(world: World, method: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.health._READ_WITHIN", 0.1)
    call = world.channel.stream_stream(f"/grpc.health.v1.Health/{method}")
    long = call()
    await long.write(Request(service="s" * 2000).SerializeToString())
    assert (await refused(_all(long))).reason == "REQUEST_MALFORMED"
    assert (await refused(_all(call()))).reason == "DEADLINE"  # and a question that never comes


async def _all(call: grpc.aio.StreamStreamCall) -> list[bytes]:
    return [answer async for answer in call]


async def test_watch_keeps_our_words_to_itself(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_arguments: object) -> None:
        raise RuntimeError("private words")

    monkeypatch.setattr("gateway.health.find", fail)
    watch = health_pb2_grpc.HealthStub(world.channel).Watch(Request(service="digits"), metadata=[world.bearer()])
    assert (await asyncio.wait_for(watch.read(), 3)).status == Response.SERVICE_UNKNOWN
    watch.cancel()
    told = await refused(check(world, "digits"))
    assert (told.reason, "private" in told.everything) == ("INTERNAL", False)


async def test_watch_of_what_may_not_be_told(world: World) -> None:
    watch = health_pb2_grpc.HealthStub(world.channel).Watch(Request(service="digits"))
    assert (await asyncio.wait_for(watch.read(), 3)).status == Response.SERVICE_UNKNOWN
    watch.cancel()
