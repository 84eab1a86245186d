"""Streams for tests: messages, answers, workers that answer in their own way, and how to see that all stands still."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import grpc
import grpc.aio

from protos import grpc_service_pb2 as pb
from tests.gateway.world import STREAM, Metadata, World

MIB = 1024**2
LARGE = 64 * 1024  # bytes


def message(model: str, version: str = "", id: str = "", size: int = 0) -> bytes:
    """A request; `size`: bytes of its one tensor, 0 is none."""
    request = pb.ModelInferRequest(model_name=model, model_version=version, id=id)
    if size:
        request.raw_input_contents.append(bytes(size))
    return request.SerializeToString()


def answer(id: str = "", size: int = 0, **fields: object) -> bytes:
    """What a worker may say."""
    response = pb.ModelInferResponse(model_name="digits", id=id)
    if size:
        response.raw_output_contents.append(bytes(size))
    return pb.ModelStreamInferResponse(infer_response=response, **fields).SerializeToString()


def opened(world: World, metadata: Metadata | None = None, timeout: float = 20) -> grpc.aio.StreamStreamCall:
    return world.channel.stream_stream(STREAM)(
        metadata=[world.bearer()] if metadata is None else metadata, timeout=timeout
    )


async def answers(call: grpc.aio.StreamStreamCall) -> list[pb.ModelStreamInferResponse]:
    """All that still come, by `read`."""
    got = []
    while isinstance(each := await call.read(), bytes):
        got.append(pb.ModelStreamInferResponse.FromString(each))
    return got


class Endless:
    """Answers a stream's first message for ever, with so many bytes each; `given`: bytes that it could give away."""

    def __init__(self, size: int = LARGE, pause: float = 0.0) -> None:
        self._answer = answer(size=size)
        self._pause = pause
        self.given = 0

    async def __call__(self, context: grpc.aio.ServicerContext) -> None:
        await context.read()
        while True:
            await context.write(self._answer)
            self.given += len(self._answer)
            await asyncio.sleep(self._pause)


async def at_a_stand(count: Callable[[], int], seconds: float = 0.5) -> int:
    """What the count has come to when it has not moved for so long."""
    async with asyncio.timeout(20):
        before = -1
        while before != (before := count()):
            await asyncio.sleep(seconds)
    return before
