"""Several gateway processes behind one door, each time others: how they come up, hang and end."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import psutil
import pytest

from gateway.errors import StartError
from headrace import siblings
from mesh.express import front
from tests.envoy import needs_envoy
from tests.gateway import world as worlds
from tests.gateway.test_service import refused
from tests.gateway.tokens import Issuer
from tests.gateway.world import CLIENT, INFER, echo
from tests.headrace.test_siblings import (
    PYTHONS,
    Code,
    all_take_calls,
    further,
    many,
    outcome,
    replaced,
    taken,
    three,
    until,
)

pytestmark = needs_envoy


async def test_each_call_leaves_one_whole_line_whoever_had_it(tmp_path: Path) -> None:
    def logged(config: dict[str, Any]) -> None:
        three(config)
        config["telemetry"]["access_log"] = "access.log"

    async with worlds.world(tmp_path, logged, express=True) as world:
        await until(all_take_calls(world))
        assert set(await many(world, 300)) == {Code.OK}
        given = (await taken(world)).total()

        async def all_told() -> bool:
            return len((tmp_path / "access.log").read_bytes().splitlines()) >= given

        await until(all_told)
        lines = [json.loads(line) for line in (tmp_path / "access.log").read_text().splitlines()]
    assert len({line["headrace.request.id"] for line in lines}) == len(lines) == given


async def test_one_that_hangs_gets_no_calls_and_is_replaced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(front, "_ALIVE", front._ALIVE | {"interval": "0.2s", "timeout": "0.2s"})
    monkeypatch.setattr(siblings, "_GONE", 0.2)
    async with worlds.world(tmp_path, three, express=True) as world:
        await until(all_take_calls(world))
        before = further()
        before[0].suspend()

        async def out() -> bool:
            given = await taken(world)
            calls = [world.channel.unary_unary(INFER)(PYTHONS, metadata=[world.bearer()], timeout=1) for _ in range(60)]
            outcomes = await asyncio.gather(*map(outcome, calls))
            return set(outcomes) == {Code.OK} and len(await taken(world) - given) == 2

        await until(out)
        assert not caplog.text
        monkeypatch.setattr(siblings, "_SILENT", 0.5)
        await replaced(world, before)
        assert "has given no sign for 0.5 s; starting another" in caplog.text


def ends(*_arguments: object) -> None:
    """A process that does not come up."""


async def test_one_that_does_not_come_up_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(siblings, "serve", ends)
    with pytest.raises(StartError, match=r"further gateway process python-\d \(pid \d+\) has ended"):
        async with worlds.world(tmp_path, three, express=True):
            pytest.fail("it has ended")
    assert not further()


# ---- the end ----


async def test_calls_that_run_in_any_of_them_end_well(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """They take longer than one may be silent."""
    monkeypatch.setattr(siblings, "_SILENT", 2.0)
    over, running = asyncio.Event(), [0]

    async def slow(message: bytes, context: grpc.aio.ServicerContext) -> bytes:
        running[0] += 1
        await over.wait()
        return await echo(message, context)

    async with contextlib.AsyncExitStack() as stack:
        async with worlds.world(tmp_path, three, express=True, drains=True) as world:
            await until(all_take_calls(world))
            before = await taken(world)
            channel = await stack.enter_async_context(grpc.aio.insecure_channel(world.address, options=CLIENT))
            world.one.behaviour[INFER] = slow
            method = channel.unary_unary(INFER)
            calls = [
                asyncio.ensure_future(outcome(method(PYTHONS, metadata=[world.bearer()], timeout=20)))
                for _ in range(30)
            ]
            await until(all_there(running, 30))
            assert len(await taken(world) - before) == 3
            asyncio.get_running_loop().call_later(2.5, over.set)
        assert set(await asyncio.gather(*calls)) == {Code.OK}
        late = channel.unary_unary(INFER)(PYTHONS, metadata=[world.bearer()], timeout=10)
        assert (await refused(late)).status is Code.UNAVAILABLE
    assert not further()


def all_there(running: list[int], number: int) -> Callable[[], Awaitable[bool]]:
    async def there() -> bool:
        return running[0] == number

    return there


@dataclass
class Command:
    """`headrace gateway` as a process, in a session of its own."""

    process: asyncio.subprocess.Process
    further: list[psutil.Process]
    channel: grpc.aio.Channel
    bearer: tuple[str, str]

    async def call(self) -> Code:
        call = self.channel.unary_unary(INFER)(PYTHONS, metadata=[self.bearer], timeout=20)
        return await outcome(call)


@contextlib.asynccontextmanager
async def command(folder: Path, worker: worlds.Worker) -> AsyncIterator[Command]:
    issuer = Issuer()
    listen = {"address": "127.0.0.1:0", "admin": None, "notice": "50ms", "processes": 2}
    config = worlds.in_front_of(worker.address, folder, issuer, "digits", listen=listen)
    line = [sys.executable, "-m", "headrace", "gateway", "--config", str(config)]
    environ = {**os.environ, "TMPDIR": str(folder)}
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(*line, stdout=pipe, stderr=pipe, env=environ, start_new_session=True)
    assert process.stdout is not None
    ready = (await asyncio.wait_for(process.stdout.readline(), 60)).decode().split()
    async with grpc.aio.insecure_channel(ready[-1], options=CLIENT) as channel:
        made = Command(process, further(process.pid), channel, ("authorization", f"Bearer {issuer.token()}"))
        try:
            yield made
        finally:
            if process.returncode is None:
                process.kill()
            await process.communicate()


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGINT])
async def test_however_the_command_is_stopped_running_calls_end_well(how: signal.Signals, tmp_path: Path) -> None:
    """A Ctrl-C reaches all of them, as does what systemd sends."""
    over, running = asyncio.Event(), [0]

    async def slow(message: bytes, context: grpc.aio.ServicerContext) -> bytes:
        running[0] += 1
        await over.wait()
        return await echo(message, context)

    async with worlds.running(worlds.Worker()) as worker, command(tmp_path, worker) as made:
        worker.behaviour[INFER] = slow
        calls = [asyncio.ensure_future(made.call()) for _ in range(20)]
        await until(all_there(running, 20))
        os.killpg(made.process.pid, how)
        asyncio.get_running_loop().call_later(0.5, over.set)
        assert set(await asyncio.gather(*calls)) == {Code.OK}
        _, said = await asyncio.wait_for(made.process.communicate(), 30)
        assert made.process.returncode == 0
        assert "Traceback" not in said.decode()
        assert len(made.further) == 1
        psutil.wait_procs(made.further, 5)
        assert not any(one.is_running() for one in made.further)


async def test_told_twice_to_stop_all_end_at_once(tmp_path: Path) -> None:
    reached = asyncio.Event()
    async with worlds.running(worlds.Worker()) as worker, command(tmp_path, worker) as made:
        worker.behaviour[INFER] = worlds.hanging(reached)
        calls = [asyncio.ensure_future(made.call()) for _ in range(10)]
        await asyncio.wait_for(reached.wait(), 10)
        made.process.send_signal(signal.SIGTERM)
        assert made.process.stderr is not None
        while b"stopping" not in await asyncio.wait_for(made.process.stderr.readline(), 10):
            pass
        made.process.send_signal(signal.SIGTERM)
        await asyncio.wait_for(made.process.communicate(), 15)
        assert not set(await asyncio.gather(*calls)) & {Code.OK, Code.DEADLINE_EXCEEDED}
        psutil.wait_procs(made.further, 5)
        assert not any(one.is_running() for one in made.further)


async def test_none_outlives_the_first(tmp_path: Path) -> None:
    async with worlds.running(worlds.Worker()) as worker, command(tmp_path, worker) as made:
        assert await made.call() is Code.OK
        made.further[0].suspend()  # and does not see it
        made.process.kill()
        psutil.wait_procs(made.further, 10)
        assert not any(one.is_running() for one in made.further)
