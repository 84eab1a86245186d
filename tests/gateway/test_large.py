"""Large messages by both lanes: what passes, what is refused before it is there, and what they take of memory."""

from __future__ import annotations

import asyncio
import contextlib
import sys
import threading
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import grpc
import grpc.aio
import psutil
import pytest

from loadtest import http2
from protos import grpc_service_pb2 as pb
from tests.envoy import needs_envoy
from tests.gateway.streams import MIB, answers, message, opened
from tests.gateway.test_service import refused
from tests.gateway.tokens import Issuer
from tests.gateway.world import CLIENT, INFER, STREAM, Worker, World, in_front_of, running

Code = grpc.StatusCode
_SIZE = 64 * 10**6  # bytes of a tensor; a message of 64 MiB and a name is over the bound of 64 MiB


async def echo_tensor(body: bytes, _context: grpc.aio.ServicerContext) -> bytes:
    request = pb.ModelInferRequest.FromString(body)
    return pb.ModelInferResponse(id=request.id, raw_output_contents=request.raw_input_contents).SerializeToString()


@pytest.mark.parametrize("size", [8 * MIB, _SIZE])
async def test_large_tensors_pass_there_and_back(lanes: World, size: int) -> None:
    lanes.one.behaviour |= {INFER: echo_tensor, STREAM: echo_tensor}
    sent = message("digits", "1", "a", size)
    got = pb.ModelInferResponse.FromString(await lanes.call("ModelInfer", sent))
    assert [len(tensor) for tensor in got.raw_output_contents] == [size]
    call = opened(lanes)
    for _ in range(2):
        await call.write(sent)
    await call.done_writing()
    assert [len(each.infer_response.raw_output_contents[0]) for each in await answers(call)] == [size, size]


@pytest.mark.parametrize("known", [False, True])
@pytest.mark.parametrize("path", [INFER, STREAM])
async def test_a_message_that_no_model_takes_is_refused(lanes: World, path: str, known: bool) -> None:
    """With the reason where an Envoy is in front; gRPC itself has none."""
    if known:  # then the lane holds the message back
        await lanes.infer(version="1")
    call = lanes.channel.stream_stream(path)(metadata=[lanes.bearer()], timeout=20)
    with contextlib.suppress(grpc.aio.AioRpcError):
        await call.write(message("digits", "1", "a", 80 * MIB))
        await call.read()
    assert await call.code() is Code.RESOURCE_EXHAUSTED
    told = await refused(answers(call))
    assert told.reason == ("TOO_LARGE" if lanes.express else None)
    assert lanes.one.infers() == lanes.one.infers()[: int(known)]


@pytest.mark.parametrize("path", [INFER, STREAM])
async def test_a_message_is_refused_by_its_first_bytes(lanes: World, path: str) -> None:
    """Four gigabytes are claimed, and none comes."""
    host, _, port = lanes.address.rpartition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    headers = http2.literal(
        [
            *((":method", "POST"), (":scheme", "http"), (":path", path), (":authority", "gateway")),
            *(("content-type", "application/grpc"), ("te", "trailers"), lanes.bearer()),
        ]
    )
    writer.write(http2.PREFACE + http2.frame(http2.SETTINGS, 0, 0))
    writer.write(http2.frame(http2.HEADERS, http2.END_HEADERS, 1, headers))
    writer.write(http2.frame(http2.DATA, 0, 1, b"\0\xff\xff\xff\xff" + message("digits", "1")))
    try:
        async with asyncio.timeout(10):
            while True:
                head = await reader.readexactly(9)
                await reader.readexactly(int.from_bytes(head[:3]))
                if head[3] == http2.HEADERS and head[4] & http2.END_STREAM:
                    return
    finally:
        writer.close()


# ---- memory ----


@contextlib.asynccontextmanager
async def gateway_process(folder: Path, express: str) -> AsyncIterator[tuple[psutil.Process, grpc.aio.Channel, str]]:
    """A gateway of its own process in front of a worker that answers little."""
    issuer = Issuer()
    async with running(Worker()) as worker:
        listen = {"address": "127.0.0.1:0", "admin": None, "notice": "1ms", "express": express}
        config = in_front_of(worker.address, folder, issuer, "digits", listen=listen)
        made = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "headrace", "gateway", "--config", str(config)),
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
        )
        try:
            assert made.stdout is not None
            address = (await asyncio.wait_for(made.stdout.readline(), 30)).decode().split()[-1]
            async with grpc.aio.insecure_channel(address, options=CLIENT) as channel:
                yield psutil.Process(made.pid), channel, f"Bearer {issuer.token()}"
        finally:
            made.terminate()
            await made.wait()


@contextlib.contextmanager
def peak(process: psutil.Process) -> Iterator[list[int]]:
    """The most bytes that the process and those that it has started come to hold while inside."""
    each = [process, *process.children(recursive=True)]
    over, found = threading.Event(), [0]

    def resident() -> int:
        return sum(one.memory_info().rss for one in each)

    before = resident()

    def watch() -> None:
        while not over.wait(0.003):
            found[0] = max(found[0], resident() - before)

    watching = threading.Thread(target=watch)
    watching.start()
    try:
        yield found
    finally:
        over.set()
        watching.join()


@pytest.mark.parametrize("calls", [1, pytest.param(4, marks=pytest.mark.soak), pytest.param(8, marks=pytest.mark.soak)])
@pytest.mark.parametrize("lane", ["python", "door", "express"])
@needs_envoy
async def test_what_calls_of_64_megabytes_hold(tmp_path: Path, lane: str, calls: int) -> None:
    """By the Python lane alone, by it behind the door, and by the express lane; the factors are docs/streams.md's."""
    async with gateway_process(tmp_path, "off" if lane == "python" else "on") as (process, channel, token):
        infer = channel.unary_unary(INFER)
        metadata = [("authorization", token)]
        if lane == "express":
            for _ in range(3):
                await infer(message("digits"), metadata=metadata, timeout=10, wait_for_ready=True)
        sent = message("digits", size=_SIZE)
        with peak(process) as held:
            await asyncio.gather(*(infer(sent, metadata=metadata, timeout=60) for _ in range(calls)))
        factor = held[0] / (calls * _SIZE)
    print(f"\n{lane}, {calls} at a time: {factor:.2f} times the message")  # noqa: T201 - to be seen with -s
    assert 0.1 < factor < (2.5 if lane == "express" else 4.7)
