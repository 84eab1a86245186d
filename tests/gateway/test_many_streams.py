"""Many streams at a time, each to several models and versions: nothing is lost, reordered, doubled or another's."""

from __future__ import annotations

import asyncio
from collections import defaultdict

import pytest

from protos import grpc_service_pb2 as pb
from tests.gateway.streams import message, opened
from tests.gateway.world import World

_UNDER_WAY = 32  # messages of a stream that are not answered yet: all of this runs in one process
_ASKED = [("digits", "1"), ("digits", "canary"), ("shared", ""), ("digits", "2"), ("token", "1")]
_SERVED = {
    ("digits", "1"): "1",
    ("digits", "canary"): "2",
    ("shared", ""): "2",
    ("digits", "2"): "2",
    ("token", "1"): "1",
}


async def conversed(world: World, stream: int, messages: int) -> dict[tuple[str, str], list[str]]:
    """The ids that one stream gets back, by who says to have answered."""
    call = opened(world, [world.bearer(sub=f"caller-{stream % 10}")], timeout=580)
    room = asyncio.Semaphore(_UNDER_WAY)

    async def write() -> None:
        for number in range(messages):
            await room.acquire()
            await call.write(message(*_ASKED[number % len(_ASKED)], f"{stream}.{number}"))
        await call.done_writing()

    writing = asyncio.create_task(write())
    got = defaultdict(list)
    while isinstance(answer := await call.read(), bytes):
        room.release()
        said = pb.ModelStreamInferResponse.FromString(answer)
        assert not said.error_message
        got[said.infer_response.model_name, said.infer_response.model_version].append(said.infer_response.id)
    await writing
    return got


def expected(stream: int, messages: int) -> dict[tuple[str, str], list[str]]:
    ids = defaultdict(list)
    for number in range(messages):
        model, asked = _ASKED[number % len(_ASKED)]
        ids[model, _SERVED[model, asked]].append(f"{stream}.{number}")
    return ids


@pytest.mark.parametrize(
    ("streams", "messages"),
    [(20, 200), pytest.param(200, 1000, marks=[pytest.mark.soak, pytest.mark.timeout(600)])],
)
async def test_nothing_is_lost_reordered_or_doubled(lanes: World, streams: int, messages: int) -> None:
    got = await asyncio.gather(*(conversed(lanes, stream, messages) for stream in range(streams)))
    assert got == [expected(stream, messages) for stream in range(streams)]
    assert len(lanes.one.calls) + len(lanes.two.calls) == streams * messages
