"""The process: how it starts, who may come in, and how it ends."""

import asyncio
import contextlib
import json
import signal
import socket
import sys
from collections import Counter
from collections.abc import AsyncIterator, Coroutine
from pathlib import Path
from typing import Any

import aiohttp
import grpc
import grpc.aio
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from gateway.errors import StartError
from gateway.server import run, serving
from gateway.settings import load
from protos import garbage
from protos import grpc_service_pb2 as pb
from tests.envoy import needs_envoy
from tests.gateway import world as worlds
from tests.gateway.certificates import Authority
from tests.gateway.test_service import refused
from tests.gateway.tokens import Issuer
from tests.gateway.world import INFER, SERVICE, Worker, World, echo, hanging, running

START = "import sys, os, pathlib; from gateway.settings import load; from gateway.server import run; " + (
    "sys.exit(run(load(pathlib.Path(sys.argv[1]), os.environ)))"
)


def test_what_is_there_before_it_serves_is_spared_by_the_collector(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps: list[str] = []

    def serve(serving: Coroutine[Any, Any, None]) -> None:
        serving.close()
        steps.append("serve")

    monkeypatch.setattr(garbage, "spare", lambda: steps.append("spare"))
    monkeypatch.setattr(asyncio, "run", serve)
    run(load(worlds.in_front_of("127.0.0.1:1", tmp_path, Issuer(), "digits"), {}))
    assert steps == ["spare", "serve"]


@contextlib.asynccontextmanager
async def process(config: Path) -> AsyncIterator[tuple[asyncio.subprocess.Process, str]]:
    """The gateway as a process of its own, and where it says that it listens."""
    child = await asyncio.create_subprocess_exec(
        sys.executable, "-c", START, config, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    assert child.stdout is not None
    try:
        line = (await asyncio.wait_for(child.stdout.readline(), 30)).decode()
        assert line.startswith("headrace gateway ready on "), line
        yield child, line.split()[-1]
    finally:
        with contextlib.suppress(ProcessLookupError):
            child.kill()
        await child.communicate()


def written(folder: Path, issuer: Issuer, worker: Worker, **listen: object) -> Path:
    jwks = folder / "jwks.json"
    jwks.write_bytes(issuer.jwks())
    config = worlds.configuration(issuer, jwks, worker.address, worker.address, worker.address)
    config["listen"].update(listen)
    path = folder / "headrace.yaml"
    path.write_text(json.dumps(config))
    return path


@contextlib.asynccontextmanager
async def held_up(
    folder: Path, drain: str
) -> AsyncIterator[tuple[asyncio.subprocess.Process, asyncio.Future[bytes], Worker]]:
    """A gateway's process, a call that its worker does not answer, and the worker."""
    reached, issuer = asyncio.Event(), Issuer(scope="all")
    async with running(Worker({INFER: hanging(reached)})) as worker:
        config = written(folder, issuer, worker, drain=drain)
        async with process(config) as (child, address), grpc.aio.insecure_channel(address) as channel:
            message = pb.ModelInferRequest(model_name="shared").SerializeToString()
            token = [("authorization", f"Bearer {issuer.token()}")]
            call = asyncio.ensure_future(channel.unary_unary(INFER)(message, metadata=token))
            await asyncio.wait_for(reached.wait(), 10)
            yield child, call, worker


async def test_sigterm_lets_running_calls_finish_and_sends_new_ones_elsewhere(tmp_path: Path) -> None:
    issuer, gate, reached = Issuer(scope="all"), asyncio.Event(), asyncio.Event()

    async def wait(message: bytes, context: grpc.aio.ServicerContext) -> bytes:
        reached.set()
        await gate.wait()
        return await echo(message, context)

    async with running(Worker({INFER: wait})) as worker:
        config = written(tmp_path, issuer, worker, notice="300ms", drain="20s")
        async with process(config) as (child, address), grpc.aio.insecure_channel(address) as channel:
            token = [("authorization", f"Bearer {issuer.token()}")]
            message = pb.ModelInferRequest(model_name="shared", id="9").SerializeToString()
            call = asyncio.ensure_future(channel.unary_unary(INFER)(message, metadata=token))
            await asyncio.wait_for(reached.wait(), 10)
            watch = health_pb2_grpc.HealthStub(channel).Watch(health_pb2.HealthCheckRequest())
            while (await watch.read()).status != health_pb2.HealthCheckResponse.SERVING:
                pass

            child.send_signal(signal.SIGTERM)

            told = await asyncio.wait_for(watch.read(), 5)
            assert told.status == health_pb2.HealthCheckResponse.NOT_SERVING
            assert await asyncio.wait_for(watch.read(), 5) is grpc.aio.EOF
            code = None
            async with asyncio.timeout(10):
                while code is None:  # until the door is closed to new callers
                    async with grpc.aio.insecure_channel(address, options=worlds.CLIENT) as other:
                        try:
                            await other.unary_unary(SERVICE + "ServerLive")(b"", timeout=5)
                        except grpc.aio.AioRpcError as error:
                            code = error.code()
            assert code is grpc.StatusCode.UNAVAILABLE  # which callers try elsewhere
            assert child.returncode is None
            gate.set()
            answer = pb.ModelInferResponse.FromString(await asyncio.wait_for(call, 10))
            assert answer.id == "9"
            assert await asyncio.wait_for(child.wait(), 10) == 0
            assert child.stderr is not None
            assert "Traceback" not in (await child.stderr.read()).decode()


async def test_under_load_nobody_sees_anything_but_ok_and_unavailable(tmp_path: Path) -> None:
    """UNAVAILABLE is what callers try elsewhere; CANCELLED is not."""
    issuer = Issuer(scope="all")
    seen: Counter[grpc.StatusCode] = Counter()
    over = asyncio.Event()
    async with running(Worker()) as worker:
        config = written(tmp_path, issuer, worker, notice="300ms", drain="5s")
        async with process(config) as (child, address), contextlib.AsyncExitStack() as stack:
            channels = [
                await stack.enter_async_context(grpc.aio.insecure_channel(address, options=worlds.CLIENT))
                for _ in range(4)
            ]
            message = pb.ModelInferRequest(model_name="shared").SerializeToString()
            token = [("authorization", f"Bearer {issuer.token()}")]

            async def call(channel: grpc.aio.Channel) -> None:
                while not over.is_set():
                    try:
                        await channel.unary_unary(INFER)(message, metadata=token, timeout=5)
                        seen[grpc.StatusCode.OK] += 1
                    except grpc.aio.AioRpcError as error:
                        seen[error.code()] += 1
                        await asyncio.sleep(0.01)

            callers = [asyncio.create_task(call(channel)) for channel in channels for _ in range(6)]
            async with asyncio.timeout(10):
                while seen[grpc.StatusCode.OK] < 200:
                    await asyncio.sleep(0.01)
            child.send_signal(signal.SIGTERM)
            assert await asyncio.wait_for(child.wait(), 10) == 0
            over.set()
            await asyncio.gather(*callers)
    assert seen[grpc.StatusCode.UNAVAILABLE]
    assert seen.keys() <= {grpc.StatusCode.OK, grpc.StatusCode.UNAVAILABLE}


async def test_a_second_signal_ends_at_once(tmp_path: Path) -> None:
    async with held_up(tmp_path, drain="60s") as (child, call, _):
        child.send_signal(signal.SIGTERM)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(asyncio.shield(child.wait()), 1)
        child.send_signal(signal.SIGTERM)
        assert await asyncio.wait_for(child.wait(), 10) == 0
        await refused(call)


async def test_an_outage_is_seen_in_the_log_and_does_not_fill_it(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    for number in range(30):
        await refused(world.infer("dead"))
        await refused(world.infer(metadata=[]))
        await refused(world.infer(f"no-such-model-{number}"))
    lines = [record.getMessage() for record in caplog.records if record.name == "headrace.gateway"]
    assert [line.split(":")[0] for line in lines] == ["refused for dead", "refused", "refused"]
    assert "MODEL_NOT_READY" in lines[0]
    assert "onnect" in lines[0]  # why: what gRPC says of the connection, for us alone


async def test_one_caller_does_not_hide_another_in_the_log(world: World, caplog: pytest.LogCaptureFixture) -> None:
    for _ in range(30):
        await refused(world.infer("none", metadata=[world.bearer()]))
    await refused(world.infer("none", metadata=[world.bearer(sub="bob")]))
    lines = [record.getMessage() for record in caplog.records if record.name == "headrace.gateway"]
    assert len(lines) == 2
    assert "tester@" in lines[0] and "bob@" in lines[1]


async def test_calls_that_outlast_the_drain_are_ended(tmp_path: Path) -> None:
    async with held_up(tmp_path, drain="100ms") as (child, call, worker):
        child.send_signal(signal.SIGTERM)
        assert await asyncio.wait_for(child.wait(), 10) == 0
        await refused(call)
        await asyncio.wait_for(worker.cancelled.wait(), 5)


async def test_a_port_that_is_taken_is_one_clear_sentence(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        worker = Worker(address="127.0.0.1:1")
        for name in ("address", "admin"):
            settings = load(written(tmp_path, Issuer(), worker, **{name: address}), {})
            with pytest.raises(StartError, match=f"cannot listen on {address}"):
                await serving(settings).__aenter__()


async def test_reflection_tells_the_real_service(world: World) -> None:
    stub = reflection_pb2_grpc.ServerReflectionStub(world.channel)

    async def asked(**question: str) -> reflection_pb2.ServerReflectionResponse:
        call = stub.ServerReflectionInfo(iter([reflection_pb2.ServerReflectionRequest(**question)]))
        return await call.read()

    listed = (await asked(list_services="")).list_services_response.service
    assert {"inference.GRPCInferenceService", "grpc.health.v1.Health"} <= {service.name for service in listed}
    service = "inference.GRPCInferenceService"
    for symbol in (service, f"{service}.ModelInfer", "inference.ModelInferRequest.InferInputTensor"):
        described = await asked(file_containing_symbol=symbol)
        assert pb.DESCRIPTOR.serialized_pb in described.file_descriptor_response.file_descriptor_proto
    for symbol in (f"{service}.ModelExplain", "inference.Nothing"):
        assert (await asked(file_containing_symbol=symbol)).error_response.error_code == 5


async def test_admin_pages(world: World) -> None:
    async with aiohttp.ClientSession(f"http://{world.admin}") as http:
        assert (await http.get("/healthz")).status == 200
        async with asyncio.timeout(5):
            while (await http.get("/readyz")).status != 200:
                await asyncio.sleep(0.01)
        shown = await (await http.get("/config")).json()
    assert [model["name"] for model in shown["models"]][:2] == ["digits", "shared"]
    assert shown["models"][0]["timeout"] == "5s"


async def test_not_ready_without_any_issuers_keys(tmp_path: Path) -> None:
    def unknown_keys(config: dict) -> None:
        config["issuers"][0]["jwks"] = f"https://{worlds.unused_address()}/jwks.json"

    async with worlds.world(tmp_path, unknown_keys) as world, aiohttp.ClientSession() as http:
        assert (await http.get(f"http://{world.admin}/readyz")).status == 503
        told = await refused(world.infer())
        assert (told.status, told.reason) == (grpc.StatusCode.UNAVAILABLE, "KEYS_UNAVAILABLE")
        assert told.retry_after


@pytest.mark.parametrize("express", [False, pytest.param(True, marks=needs_envoy)])
async def test_tls_and_client_certificates(express: bool, tmp_path: Path) -> None:
    ours, strangers = Authority(), Authority()
    names = {"certificate": "server.pem", "key": "server.key", "client_ca": "ca.pem"}
    certificate, key = ours.issue("127.0.0.1")
    for name, content in (("server.pem", certificate), ("server.key", key), ("ca.pem", ours.pem)):
        (tmp_path / name).write_bytes(content)

    def channel(pair: tuple[bytes, bytes] | None) -> grpc.aio.Channel:
        chain, private = pair or (None, None)
        return grpc.aio.secure_channel(world.address, grpc.ssl_channel_credentials(ours.pem, private, chain))

    async with worlds.world(tmp_path, lambda config: config["listen"].update(tls=names), express=express) as world:
        message = pb.ModelInferRequest(model_name="digits", id="5").SerializeToString()
        async with channel(ours.issue("client")) as known:
            answer = await known.unary_unary(INFER)(message, metadata=[world.bearer()], timeout=10)
            assert pb.ModelInferResponse.FromString(answer).id == "5"
        for pair in (strangers.issue("client"), None):
            async with channel(pair) as stranger:
                told = await refused(stranger.unary_unary(INFER)(message, metadata=[world.bearer()], timeout=3))
                assert told.status in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED)
