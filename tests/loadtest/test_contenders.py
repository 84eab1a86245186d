"""The proxies, each for real: that it passes on what it should, and nothing is left behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import grpc
import psutil
import pytest

from gateway.settings import load
from loadtest import callers, children, contenders, setting
from loadtest.children import Broken, child, program
from loadtest.generator import spelled
from loadtest.ground import Contender, Ground, ground
from loadtest.payload import PATH, SHAPES, answer, model, request
from loadtest.setting import Lane
from tests.envoy import needs_envoy
from tests.loadtest.programs import needs_nghttp2, needs_nghttpx

SMALL = request(SHAPES["small"])


@pytest.fixture(autouse=True)
def _nothing_left_behind() -> Iterator[None]:
    cpus, before = os.sched_getaffinity(0), set(psutil.Process().children(recursive=True))
    yield
    assert set(psutil.Process().children(recursive=True)) <= before
    assert os.sched_getaffinity(0) == cpus


@pytest.fixture
def here() -> Iterator[Ground]:
    with ground() as standing:
        yield standing


def _called(contender: Contender, message: bytes, metadata: Sequence[tuple[str, str]] | None = None) -> bytes:
    with grpc.insecure_channel(contender.address) as channel:
        call: grpc.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(PATH)
        return call(message, metadata=contender.metadata if metadata is None else metadata, timeout=20)


@needs_nghttp2
@pytest.mark.parametrize(
    "put_up",
    [
        pytest.param(contenders.bare_hop, marks=needs_envoy),
        pytest.param(contenders.extraction, marks=needs_envoy),
        pytest.param(contenders.nghttpx, marks=needs_nghttpx),
        lambda here: contenders.python_proxy(here, "grpc.aio", "loadtest.bare"),
        lambda here: contenders.python_proxy(here, "grpc threads", "loadtest.threads"),
    ],
)
@pytest.mark.parametrize("shape", SHAPES)
def test_a_pass_through(here: Ground, put_up: Callable[[Ground], Contender], shape: str) -> None:
    contender = put_up(here)
    assert _called(contender, request(SHAPES[shape])) == answer()
    assert all(os.sched_getaffinity(pid) == here.proxy_cpus for pid in contender.front)


@needs_nghttp2
@needs_envoy
def test_the_models_name_is_read_out_of_the_message(here: Ground) -> None:
    contender = contenders.extraction(here)
    with pytest.raises(grpc.RpcError) as caught:
        _called(contender, request(SHAPES["small"], "another"))
    assert caught.value.code() is grpc.StatusCode.PERMISSION_DENIED


@needs_nghttp2
def test_the_gateway_has_a_caller_for_each_model(here: Ground) -> None:
    contender, tokens = contenders.lane(here, "gateway", Lane(express=False, models=3))
    assert contender.behind == []
    assert len(tokens) == 3
    for index, token in enumerate(tokens):
        assert _called(contender, request(SHAPES["small"], model(index)), contenders.bearer(token)) == answer()
    with pytest.raises(grpc.RpcError) as caught:
        _called(contender, request(SHAPES["small"], model(1)))
    assert caught.value.code() is grpc.StatusCode.PERMISSION_DENIED


@needs_nghttp2
@needs_envoy
def test_the_express_lane_is_one_envoy_with_one_worker_and_python_behind(here: Ground) -> None:
    contender, _ = contenders.lane(here, "express", Lane(express=True))
    (envoy,), (python,) = contender.front, contender.behind
    command = psutil.Process(envoy).cmdline()
    assert command[command.index("--concurrency") + 1] == "1"
    assert psutil.Process(envoy).ppid() == python
    assert {psutil.Process(pid).cpu_affinity()[0] for pid in (envoy, python)} == here.proxy_cpus
    assert _called(contender, SMALL) == answer()


@needs_nghttp2
def test_callers_take_turns(here: Ground) -> None:
    calls = [spelled(here.upstream, (), SMALL) for _ in range(5)]
    run = callers.drive(here.upstream, iter(calls * 10), 50, 4)
    assert (run.done, run.failed) == (50, 0)
    assert 0 < run.p50 < run.seconds


@needs_nghttp2
def test_callers_that_are_refused_are_told(here: Ground) -> None:
    with child(here.other_cpus, "-m", "loadtest.backend", "14", log=here.log) as refusing:
        run = callers.drive(refusing.address, iter([spelled(refusing.address, (), SMALL)] * 6), 6, 2)
    assert (run.done, run.failed) == (0, 6)


@needs_nghttp2
async def test_connections_are_held(here: Ground) -> None:
    process = psutil.Process(_nghttpd(here))
    contender = Contender("nghttpd", here.upstream, [process.pid])
    before = len(process.net_connections("tcp"))
    async with callers.holding(contender, SMALL, 20):
        assert len(process.net_connections("tcp")) == before + 20


def _nghttpd(here: Ground) -> int:
    port = here.upstream.rpartition(":")[2]
    (pid,) = [one.pid for one in psutil.Process().children() if port in one.cmdline()]
    return pid


async def test_nobody_there_is_told() -> None:
    nobody = Contender("nobody", children.free_address(), [])
    with pytest.raises(Broken, match="takes no connection"):
        async with callers.holding(nobody, SMALL, 1):
            pytest.fail("it connected")


def test_a_program_that_ends_is_told(tmp_path: Path) -> None:
    with (
        (tmp_path / "log").open("w+") as log,
        pytest.raises(Broken, match="ended with status 3"),
        program(os.sched_getaffinity(0), "127.0.0.1:1", sys.executable, "-c", "raise SystemExit(3)", log=log),
    ):
        pytest.fail("it came up")


def test_a_program_that_does_not_listen_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(children, "_START", 0.3)
    address = children.free_address()
    with (
        (tmp_path / "log").open("w+") as log,
        pytest.raises(Broken, match=f"took no connections at {address}"),
        program(os.sched_getaffinity(0), address, sys.executable, "-c", "import time; time.sleep(60)", log=log),
    ):
        pytest.fail("it came up")


_HOLDS = """
import sys, time
from loadtest.ground import ground
with ground() as here:
    print(here.upstream, flush=True)
    time.sleep(60)
"""


@needs_nghttp2
def test_programs_end_with_a_parent_that_is_killed(tmp_path: Path) -> None:
    environment = os.environ | {"TMPDIR": str(tmp_path)}  # which it cannot tidy up
    with subprocess.Popen([sys.executable, "-c", _HOLDS], stdout=subprocess.PIPE, text=True, env=environment) as parent:
        assert parent.stdout is not None
        parent.stdout.readline()
        (nghttpd,) = psutil.Process(parent.pid).children()
        parent.send_signal(signal.SIGKILL)
        parent.wait(20)
        nghttpd.wait(20)
    assert not nghttpd.is_running()


@pytest.mark.parametrize("lane", [Lane(express=True), Lane(express=False, collector="127.0.0.1:2", models=3)])
def test_the_gateway_takes_a_lanes_configuration(tmp_path: Path, lane: Lane) -> None:
    config, tokens = setting.write_lane(tmp_path, "127.0.0.1:1", lane)
    settings = load(config, {})
    assert settings.listen.express == ("on" if lane.express else "off")
    assert settings.telemetry.otlp == ("http://127.0.0.1:2" if lane.collector else None)
    assert len(settings.models) == len(settings.grants) == len(tokens) == lane.models
