"""What takes minutes to see."""

import asyncio
import contextlib
import os
import signal
import sys
from pathlib import Path

import grpc
import grpc.aio
import psutil
import pytest

from gateway.server import serving
from gateway.settings import load
from protos import grpc_service_pb2 as pb
from tests.gateway.test_service import refused
from tests.gateway.tokens import Issuer
from tests.gateway.world import INFER, STREAM, World, in_front_of
from tests.workers import zoo

pytestmark = [pytest.mark.soak, pytest.mark.timeout(400)]


async def test_a_worker_that_hangs_does_not_hold_a_stream_for_ever(tmp_path: Path) -> None:
    """Keepalive: nobody else would notice that the other end has gone silent."""
    zoo.add(tmp_path / "models")
    issuer = Issuer()
    worker = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "headrace", "worker", "--repository", tmp_path / "models", "--listen", "127.0.0.1:0",
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL,
    )  # fmt: skip
    try:
        assert worker.stdout is not None
        address = (await asyncio.wait_for(worker.stdout.readline(), 30)).decode().split()[-1]
        config = in_front_of(address, tmp_path, issuer, "add")
        async with (
            serving(load(config, {})) as addresses,
            grpc.aio.insecure_channel(addresses.grpc) as channel,
        ):
            stream = channel.stream_stream(STREAM)(metadata=[("authorization", f"Bearer {issuer.token()}")])
            message = pb.ModelInferRequest(model_name="add").SerializeToString()
            await stream.write(message)
            assert isinstance(await asyncio.wait_for(stream.read(), 10), bytes)
            os.kill(worker.pid, signal.SIGSTOP)
            await stream.write(message)
            told = await asyncio.wait_for(refused(_end(stream)), 330)
            assert (told.status, told.reason) == (grpc.StatusCode.UNAVAILABLE, "MODEL_NOT_READY")
    finally:
        with contextlib.suppress(ProcessLookupError):
            worker.kill()
        await worker.wait()


async def test_a_silent_call_is_not_ended_by_the_pings_meant_to_keep_it(world: World) -> None:
    """A gRPC server, as it is by itself, ends the call at the third ping in five minutes."""
    over = asyncio.Event()

    async def silent(_message: bytes, _context: grpc.aio.ServicerContext) -> bytes:
        await over.wait()
        return pb.ModelInferResponse(id="late").SerializeToString()

    world.one.behaviour[STREAM] = silent
    stream = world.channel.stream_stream(STREAM)(metadata=[world.bearer()])
    await stream.write(pb.ModelInferRequest(model_name="digits").SerializeToString())
    answer = asyncio.ensure_future(stream.read())
    await asyncio.wait([answer], timeout=200)
    assert not answer.done()
    over.set()
    assert pb.ModelStreamInferResponse.FromString(await answer).infer_response.id == "late"


async def _end(stream: grpc.aio.StreamStreamCall) -> None:
    while isinstance(await stream.read(), bytes):
        pass


async def test_calls_without_end_take_no_more_memory(world: World) -> None:
    message = pb.ModelInferRequest(model_name="digits", id="1").SerializeToString()
    infer = world.channel.unary_unary(INFER)
    token = [world.bearer()]

    async def some(calls: int) -> int:
        for _ in range(calls // 50):
            await asyncio.gather(*(infer(message, metadata=token) for _ in range(50)))
            for worker in world.workers.values():
                worker.calls.clear()
                worker.metadata.clear()
                worker.remaining.clear()
        return psutil.Process().memory_info().rss

    before = await some(10_000)
    after = await some(40_000)
    assert after - before < 20 * 1024**2
