"""Our few lines of HTTP/2 against gRPC's own: the caller against its server, the worker against its client."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import grpc
import grpc.aio
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from loadtest.backend import Backend
from loadtest.generator import Generator, repeated
from loadtest.payload import PATH, SHAPES, answer, request
from protos.grpc_service_pb2 import ModelInferRequest, ModelInferResponse

Context = grpc.aio.ServicerContext[Any, Any]
Handler = Callable[[bytes, Context], Awaitable[bytes]]
TOKEN = "Bearer " + "x" * 700
METADATA = (("authorization", TOKEN), ("x-other", ""))


async def _answer(_: bytes, __: Context) -> bytes:
    return answer()


@asynccontextmanager
async def _server(handler: Handler) -> AsyncIterator[tuple[grpc.aio.Server, int]]:
    class Handlers(grpc.GenericRpcHandler):
        def service(self, handler_call_details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler[Any, Any] | None:
            known = handler_call_details.method == PATH
            return grpc.unary_unary_rpc_method_handler(handler) if known else None

    server = grpc.aio.server()
    server.add_generic_rpc_handlers((Handlers(),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        yield server, port
    finally:
        await server.stop(None)


async def _call(port: int, message: bytes, concurrency: int) -> Generator:
    loop = asyncio.get_running_loop()
    _, caller = await loop.create_connection(
        lambda: Generator(repeated("bench.example", METADATA, message), concurrency), "127.0.0.1", port
    )
    return caller


async def _until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not condition():
            await asyncio.sleep(0.005)


@pytest.mark.parametrize("shape", SHAPES)
async def test_a_grpc_server_gets_what_the_caller_sends(shape: str) -> None:
    message = request(SHAPES[shape])
    seen: list[tuple[object, ...]] = []

    async def handler(body: bytes, context: Context) -> bytes:
        metadata = dict(context.invocation_metadata() or ())
        remaining = context.time_remaining()
        seen.append((body == message, metadata["authorization"], metadata["x-other"], remaining is not None))
        return answer()

    async with _server(handler) as (_, port):
        caller = await _call(port, message, 8)
        await _until(lambda: len(caller.tally.latencies) >= 50)
        await caller.finish()
    assert caller.tally.failed == 0
    assert len(seen) == len(caller.tally.latencies)
    assert set(seen) == {(True, TOKEN, "", True)}
    assert all(0 < latency < 20 for latency in caller.tally.latencies)


async def test_no_more_calls_are_open_than_asked() -> None:
    now = most = 0

    async def handler(_: bytes, __: Context) -> bytes:
        nonlocal now, most
        now += 1
        most = max(most, now)
        await asyncio.sleep(0.001)
        now -= 1
        return answer()

    async with _server(handler) as (_, port):
        caller = await _call(port, b"", 5)
        await _until(lambda: len(caller.tally.latencies) >= 60)
        await caller.finish()
    assert most == 5


async def _refuse(_: bytes, context: Context) -> bytes:
    await context.abort(grpc.StatusCode.UNAVAILABLE, "no")


async def _answer_else(_: bytes, __: Context) -> bytes:
    return answer() + b"\x00"


async def _answer_nothing(_: bytes, __: Context) -> bytes:
    return b""


@pytest.mark.parametrize("handler", [_refuse, _answer_else, _answer_nothing])
async def test_what_is_not_the_answer_is_a_failure(handler: Handler) -> None:
    async with _server(handler) as (_, port):
        caller = await _call(port, request(SHAPES["small"]), 2)
        await _until(lambda: caller.tally.failed >= 10)
        await caller.finish()
    assert caller.tally.latencies == []


async def test_a_connection_lost_fails_what_is_open() -> None:
    entered = 0

    async def handler(_: bytes, __: Context) -> bytes:
        nonlocal entered
        entered += 1
        await asyncio.sleep(60)
        return answer()

    async with _server(handler) as (server, port):
        caller = await _call(port, request(SHAPES["small"]), 3)
        await _until(lambda: entered == 3)
        await server.stop(None)
        await _until(lambda: caller.tally.failed >= 3)
        await caller.finish()
    assert caller.tally.latencies == []


@asynccontextmanager
async def _backend(status: int = 0) -> AsyncIterator[grpc.aio.Channel]:
    connections: list[Backend] = []

    def connection() -> Backend:
        connections.append(Backend(status))
        return connections[-1]

    server = await asyncio.get_running_loop().create_server(connection, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    try:
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            yield channel
    finally:
        server.close()
        for made in connections:
            made.close()
        await asyncio.sleep(0)  # in which asyncio closes the sockets


@pytest.mark.parametrize("shape", SHAPES)
async def test_a_grpc_client_gets_the_workers_answers(shape: str) -> None:
    async with _backend() as channel:
        infer: Any = channel.unary_unary(PATH)
        answers = await asyncio.gather(*(infer(request(SHAPES[shape]), timeout=20) for _ in range(40)))
    assert set(answers) == {answer()}


async def test_a_worker_told_to_refuse_refuses() -> None:
    async with _backend(status=14) as channel:
        infer: Any = channel.unary_unary(PATH)
        for _ in range(3):
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await infer(request(SHAPES["small"]), timeout=20)
            assert caught.value.code() is grpc.StatusCode.UNAVAILABLE


async def test_the_worker_is_healthy_and_stays_so() -> None:
    async with _backend() as channel:
        watch: Any = health_pb2_grpc.HealthStub(channel).Watch(health_pb2.HealthCheckRequest(service="bench"))
        assert (await watch.read()).status == health_pb2.HealthCheckResponse.SERVING
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(asyncio.shield(watch.read()), 0.2)
        watch.cancel()


def test_the_messages_are_model_infers() -> None:
    sizes = {name: len(request(shape)) for name, shape in SHAPES.items()}
    assert 250 < sizes["small"] < 350
    assert 600_000 < sizes["large"] < 605_000
    assert ModelInferRequest.FromString(request(SHAPES["large"])).inputs[0].shape == [1, 3, 224, 224]
    assert ModelInferResponse.FromString(answer()).outputs[0].name == "scores"
