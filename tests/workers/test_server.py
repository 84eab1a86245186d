"""The process: how it begins, how it refuses to, how it ends."""

from __future__ import annotations

import asyncio
import fcntl
import json
import os
import signal
import socket
import sys
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import grpc
import pytest

from protos import grpc_service_pb2 as pb
from protos.grpc_service_pb2_grpc import GRPCInferenceServiceStub
from tests.workers import zoo
from tests.workers.calling import floats, fp32, refused, request
from tests.workers.conftest import Calls, until
from workers.errors import StartError
from workers.server import _OPTIONS, Options, serving

PROGRAM = """
import sys
from pathlib import Path
from workers.server import Options, run
sys.exit(run(Options(Path(sys.argv[1]), "127.0.0.1:0", otlp=sys.argv[2] or None, drain=float(sys.argv[3]))))
"""


@asynccontextmanager
async def process(
    repository: Path, otlp: str = "", drain: float = 20.0
) -> AsyncIterator[tuple[asyncio.subprocess.Process, str]]:
    worker = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", PROGRAM, str(repository), otlp, str(drain)),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        async with asyncio.timeout(60):
            line = (await worker.stdout.readline()).decode()
        assert line.startswith("headrace worker ready on 127.0.0.1:"), (await worker.stderr.read()).decode()
        yield worker, line.split()[-1]
    finally:
        if worker.returncode is None:
            worker.kill()
        await worker.communicate()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_told_to_end_it_lets_running_calls_finish(repository: Path, number: signal.Signals) -> None:
    gate = zoo.gated(repository, zoo.ONE_IN_ONE_OUT + "instance_group { count: 2 }")
    gate.shut()
    async with process(repository) as (worker, address), grpc.aio.insecure_channel(address) as channel:
        stub = GRPCInferenceServiceStub(channel)
        calls = [asyncio.ensure_future(stub.ModelInfer(request("gated", x=floats(at)))) for at in (1, 2)]
        await until(lambda: len(gate.ran()) == 2)
        worker.send_signal(number)
        async with grpc.aio.insecure_channel(address) as late:
            async with asyncio.timeout(10):
                while True:  # until it takes no more
                    try:
                        await GRPCInferenceServiceStub(late).ModelInfer(request("nope"), timeout=1)
                    except grpc.aio.AioRpcError as error:
                        if error.code() is grpc.StatusCode.UNAVAILABLE:
                            break
        assert worker.returncode is None
        gate.open()
        assert [float(fp32(answer)[0]) for answer in await asyncio.gather(*calls)] == [2, 4]
        assert await asyncio.wait_for(worker.wait(), 10) == 0


GARBAGE = """
import gc
import numpy as np

class Model:
    def __init__(self, folder, config):
        pass

    def infer(self, inputs):
        looked_at = any(one is self for one in gc.get_objects())
        return {"y": np.array([gc.get_freeze_count() > 10_000, looked_at], np.float32)}
"""


async def test_the_garbage_collector_spares_modules_but_no_model(repository: Path) -> None:
    """A model that is unloaded is freed by it alone."""
    zoo.python(repository, "garbage", GARBAGE, zoo.ONE_IN_ONE_OUT)
    async with process(repository) as (_, address), grpc.aio.insecure_channel(address) as channel:
        answer = await GRPCInferenceServiceStub(channel).ModelInfer(request("garbage", x=floats(1)))
    assert fp32(answer).tolist() == [1, 1]


async def test_draining_what_is_queued_is_run_too(repository: Path) -> None:
    gate = zoo.gated(repository)
    gate.shut()
    calls = Calls("headrace.worker")
    async with serving(Options(repository, "127.0.0.1:0"), calls) as address:
        channel = grpc.aio.insecure_channel(address)
        stub = GRPCInferenceServiceStub(channel)
        running = [asyncio.ensure_future(stub.ModelInfer(request("gated", x=floats(at)))) for at in (1, 2, 3)]
        await until(lambda: calls.begun == 3 and gate.ran())
        asyncio.get_running_loop().call_later(0.1, gate.open)
    assert [float(fp32(answer)[0]) for answer in await asyncio.gather(*running)] == [2, 4, 6]
    await channel.close()


async def test_a_model_that_hangs_does_not_keep_the_process(repository: Path) -> None:
    gate = zoo.gated(repository)
    gate.shut()
    async with process(repository, drain=0.2) as (worker, address), grpc.aio.insecure_channel(address) as channel:
        call = GRPCInferenceServiceStub(channel).ModelInfer(request("gated", x=floats(1)))
        await until(gate.ran)
        worker.terminate()
        assert await asyncio.wait_for(worker.wait(), 10) == 0
        assert (await refused(call)).status in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED)


async def test_a_dead_collector_holds_up_neither_calls_nor_the_end(repository: Path) -> None:
    zoo.add(repository)
    with socket.socket() as silent:  # it takes the connection and never says a word
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        otlp = f"http://127.0.0.1:{silent.getsockname()[1]}"
        async with process(repository, otlp) as (worker, address), grpc.aio.insecure_channel(address) as channel:
            seen = await refused(GRPCInferenceServiceStub(channel).ModelInfer(request("nope"), timeout=5))
            assert seen.reason == "MODEL_UNKNOWN"
            began = time.monotonic()
            worker.terminate()
            assert await asyncio.wait_for(worker.wait(), 20) == 0
            assert time.monotonic() - began < 5


@asynccontextmanager
async def starting(
    repository: Path, stderr: int = asyncio.subprocess.PIPE
) -> AsyncIterator[asyncio.subprocess.Process]:
    """A worker's process, which may not serve yet."""
    worker = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", PROGRAM, str(repository), "", "60"), stdout=asyncio.subprocess.PIPE, stderr=stderr
    )
    try:
        yield worker
    finally:
        if worker.returncode is None:
            worker.kill()
        await worker.communicate()


SLEEPS = """
import time
from pathlib import Path
(Path(__file__).parent / "loading").touch()
time.sleep(100)
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_told_to_end_while_it_loads_it_ends(repository: Path, number: signal.Signals) -> None:
    zoo.add(repository, "a")
    zoo.python(repository, "sleeps", SLEEPS, zoo.ONE_IN_ONE_OUT)
    async with starting(repository) as worker:
        await until((repository / "sleeps" / "1" / "loading").exists, 60)
        began = time.monotonic()
        worker.send_signal(number)
        out, said = await asyncio.wait_for(worker.communicate(), 20)
        assert time.monotonic() - began < 5
    assert (worker.returncode, out) == (0, b"")
    told = [json.loads(line)["message"] for line in said.decode().splitlines()]
    assert told == ["loading model a", "model a is loaded", "loading model sleeps", "told to end at once"]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_told_twice_it_ends_without_its_calls(repository: Path, number: signal.Signals) -> None:
    gate = zoo.gated(repository)
    gate.shut()
    async with process(repository, drain=60.0) as (worker, address), grpc.aio.insecure_channel(address) as channel:
        call = asyncio.ensure_future(
            refused(GRPCInferenceServiceStub(channel).ModelInfer(request("gated", x=floats(1))))
        )
        await until(gate.ran)
        worker.send_signal(number)
        async with asyncio.timeout(10):
            while b"draining" not in await worker.stderr.readline():
                pass
        assert worker.returncode is None
        worker.send_signal(number)
        assert await asyncio.wait_for(worker.wait(), 10) == 1
        assert (await call).status in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED)


async def test_who_does_not_read_the_log_holds_up_neither_calls_nor_the_end(repository: Path) -> None:
    zoo.add(repository)
    reads, writes = os.pipe()
    size = fcntl.fcntl(writes, fcntl.F_SETPIPE_SZ, 4096)
    try:
        async with starting(repository, writes) as worker:
            address = (await asyncio.wait_for(worker.stdout.readline(), 60)).decode().split()[-1]
            zoo.add(repository, "broken", config="ensemble_scheduling { }")
            async with grpc.aio.insecure_channel(address) as channel:
                stub = GRPCInferenceServiceStub(channel)
                for _ in range(2 * size // 100):  # each failure is logged in a line of more than 100 bytes
                    broken = pb.RepositoryModelLoadRequest(model_name="broken")
                    assert (await refused(stub.RepositoryModelLoad(broken, timeout=5))).reason == "MODEL_NOT_READY"
            worker.terminate()
            assert await asyncio.wait_for(worker.wait(), 20) == 0
    finally:
        os.close(reads)
        os.close(writes)


async def test_an_execution_that_takes_long_is_in_the_log(repository: Path, caplog: pytest.LogCaptureFixture) -> None:
    gate = zoo.gated(repository)
    zoo.add(repository)
    gate.shut()
    options = Options(repository, "127.0.0.1:0", drain=0.1)
    async with serving(options, long=0.1) as address, grpc.aio.insecure_channel(address) as channel:
        call = GRPCInferenceServiceStub(channel).ModelInfer(request("gated", x=floats(1)))
        await until(gate.ran)
        call.cancel()
        await until(lambda: "model 'gated' version 1: an execution has run for" in caplog.text)
        assert "'add'" not in caplog.text
        gate.open()


async def test_metadata_as_large_as_the_gateways_go_through(tmp_path: Path) -> None:
    async with serving(Options(tmp_path, "127.0.0.1:0")) as address, grpc.aio.insecure_channel(address) as channel:
        live = GRPCInferenceServiceStub(channel).ServerLive
        assert (await live(pb.ServerLiveRequest(), metadata=(("x-large", "x" * 30_000),))).live
        await refused(live(pb.ServerLiveRequest(), metadata=(("x-large", "x" * 80_000),)))


async def test_pings_at_the_interval_that_is_allowed_are_answered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = "grpc.http2.min_ping_interval_without_data_ms"
    pings = [
        ("grpc.keepalive_time_ms", 300),  # without calls, gRPC makes it a second
        ("grpc.keepalive_permit_without_calls", 1),
        ("grpc.http2.max_pings_without_data", 0),
    ]
    channels: dict[int, grpc.aio.Channel] = {}
    async with AsyncExitStack() as stack:
        for interval in (500, dict(_OPTIONS)[key]):
            monkeypatch.setattr("workers.server._OPTIONS", tuple({**dict(_OPTIONS), key: interval}.items()))
            address = await stack.enter_async_context(serving(Options(tmp_path, "127.0.0.1:0")))
            channels[interval] = await stack.enter_async_context(grpc.aio.insecure_channel(address, pings))
            await channels[interval].channel_ready()
        ready = grpc.ChannelConnectivity.READY
        await until(lambda: channels[10_000].get_state() is not ready)  # a connection that pings too often is ended
        assert channels[500].get_state() is ready


async def start_error(options: Options) -> str:
    with pytest.raises(StartError) as caught:
        async with serving(options):
            pass
    return str(caught.value)


async def test_what_keeps_it_from_starting_is_told_in_a_sentence(repository: Path, tmp_path: Path) -> None:
    assert "there is no folder" in await start_error(Options(tmp_path / "nope", "127.0.0.1:0"))
    zoo.add(repository)
    said = await start_error(Options(repository, "127.0.0.1:0", models=("nope",)))
    assert said == f"there is no model 'nope' here: {repository} has no such folder"
    zoo.add(repository, config="optimization { graph { level: 1 } }")
    said = await start_error(Options(repository, "127.0.0.1:0"))
    assert "config.pbtxt of model 'add' sets optimization.graph.level" in said
    zoo.put(repository, "add", b"no graph", config="max_batch_size: 1")
    said = await start_error(Options(repository, "127.0.0.1:0"))
    assert "model 'add' version 1: ONNX Runtime cannot read model.onnx" in said


async def test_a_port_that_is_taken(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        said = await start_error(Options(tmp_path, f"127.0.0.1:{taken.getsockname()[1]}"))
    assert "the port is taken" in said


async def test_two_workers_cannot_share_a_port(tmp_path: Path) -> None:
    async with serving(Options(tmp_path, "127.0.0.1:0")) as address:
        assert "the port is taken" in await start_error(Options(tmp_path, address))


async def test_without_onnx_runtime_it_says_what_to_install(repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    zoo.add(repository)
    monkeypatch.delitem(sys.modules, "workers.onnx_backend", raising=False)
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    said = await start_error(Options(repository, "127.0.0.1:0"))
    assert "pip install 'headrace[worker]'" in said
