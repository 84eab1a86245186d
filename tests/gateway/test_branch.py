"""What holds up what, and how much is held: slow workers, slow callers, and those beside them."""

from __future__ import annotations

import asyncio

import grpc
import grpc.aio
import pytest

from protos import grpc_service_pb2 as pb
from tests.gateway.streams import LARGE, MIB, Endless, answers, at_a_stand, message, opened
from tests.gateway.world import STREAM, World, echo


async def deaf(_context: grpc.aio.ServicerContext) -> None:
    """Takes nothing."""
    await asyncio.sleep(60)


async def test_a_worker_that_hangs_holds_up_the_others_for_so_long_and_no_longer(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateway.branch.STUCK", 0.5)
    world.one.streaming = deaf
    call = opened(world)
    for number in range(10):
        await call.write(message("digits", "1", f"1.{number}", 4 * MIB))
        await call.write(message("digits", "2", f"2.{number}"))
    refused, answered = [], []
    while len(answered) < 10:
        got = pb.ModelStreamInferResponse.FromString(await asyncio.wait_for(call.read(), 10))
        (refused if got.error_message else answered).append(got.infer_response.id)
        assert not got.error_message or got.error_message.startswith("OVERLOADED: the model has taken no message")
    assert answered == [f"2.{number}" for number in range(10)]
    assert refused == [f"1.{number}" for number in range(10 - len(refused), 10)]
    assert len(refused) >= 5
    call.cancel()


async def test_a_caller_that_takes_no_answers_for_long_misses_none(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateway.branch.STUCK", 0.2)

    async def large(body: bytes, context: grpc.aio.ServicerContext) -> bytes:
        return await echo(body, context) + pb.ModelInferResponse(raw_output_contents=[bytes(LARGE)]).SerializeToString()

    world.one.behaviour[STREAM] = large
    call = opened(world)
    written = 0

    async def write() -> None:
        nonlocal written
        for number in range(400):
            await call.write(message("digits", "1", str(number), LARGE))
            written += 1
        await call.done_writing()

    writing = asyncio.create_task(write())
    await at_a_stand(lambda: written, 1.0)
    assert written < 400
    got = await asyncio.wait_for(answers(call), 20)
    await writing
    assert [answer.infer_response.id for answer in got if not answer.error_message] == [str(n) for n in range(400)]


async def test_a_caller_that_takes_no_answers_brings_the_worker_to_a_stand(lanes: World) -> None:
    lanes.one.streaming = endless = Endless()
    call = opened(lanes)
    await call.write(message("digits", "1", ""))
    held = await at_a_stand(lambda: endless.given)
    assert 0 < held < 32 * MIB  # with windows as wide as the largest request: 88 MB
    taken = 0
    while taken < 2 * held:  # the same worker would have given more
        taken += len(await asyncio.wait_for(call.read(), 5))
    call.cancel()


async def test_callers_that_take_no_answers_stall_nobody_else(lanes: World) -> None:
    lanes.one.streaming = endless = Endless()
    slow = [opened(lanes) for _ in range(8)]
    for call in slow:
        await call.write(message("digits", "1", ""))
    await at_a_stand(lambda: endless.given)
    lanes.one.streaming = None
    quick = opened(lanes)
    for number in range(100):
        await quick.write(message("digits", "1", str(number), LARGE))
        got = pb.ModelStreamInferResponse.FromString(await asyncio.wait_for(quick.read(), 5))
        assert got.infer_response.id == str(number)
    assert (await lanes.infer(version="1", timeout=5)).id == "7"
    for call in (*slow, quick):
        call.cancel()
