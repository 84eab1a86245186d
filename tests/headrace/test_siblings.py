"""Several gateway processes behind one door: they share calls, decide alike, are replaced, and end together."""

from __future__ import annotations

import asyncio
import collections
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
import pytest_asyncio

from gateway.server import StartError
from headrace import siblings
from mesh.express import front
from tests.envoy import needs_envoy
from tests.gateway import world as worlds
from tests.gateway.test_service import refused
from tests.gateway.tokens import Issuer
from tests.gateway.world import CLIENT, INFER, World, echo
from tests.headrace.test_express import carried, infer, pages, with_parameter

pytestmark = needs_envoy

Code = grpc.StatusCode
PYTHONS = with_parameter()  # which the lane cannot carry


def three(config: dict[str, Any]) -> None:
    config["listen"]["processes"] = 3


@pytest_asyncio.fixture
async def several(tmp_path: Path) -> AsyncIterator[World]:
    async with worlds.world(tmp_path, three, express=True) as made:
        await until(all_take_calls(made))
        yield made


def all_take_calls(world: World) -> Callable[[], Awaitable[bool]]:
    async def taking() -> bool:
        given = await taken(world)
        outcomes = await many(world, 30)
        return set(outcomes) == {Code.OK} and len(await taken(world) - given) == 3

    return taking


def further(first: int | None = None) -> list[psutil.Process]:
    """The further processes of a gateway; of the one in this process, where no other is named."""
    return [one for one in psutil.Process(first).children() if any("spawn_main" in word for word in one.cmdline())]


async def taken(world: World) -> collections.Counter[str]:
    """How many calls each process has been given so far, by its socket."""
    async with pages(world) as admin:
        clusters = json.loads(await admin.get("clusters", format="json"))["cluster_statuses"]
    (python,) = (one for one in clusters if one["name"] == "python")
    return collections.Counter(
        {
            Path(host["address"]["pipe"]["path"]).name: int(stat.get("value", 0))
            for host in python["host_statuses"]
            for stat in host["stats"]
            if stat["name"] == "rq_total"
        }
    )


async def many(world: World, number: int = 100, wide: int = 10) -> list[Code]:
    """Calls that are Python's, so many at a time: how they end."""
    left = iter(range(number))
    outcomes: list[Code] = []

    async def one_after_another() -> None:
        outcomes.extend([await outcome(infer(world, PYTHONS)) for _ in left])

    await asyncio.gather(*(one_after_another() for _ in range(wide)))
    return outcomes


async def outcome(call: Awaitable[bytes]) -> Code:
    try:
        await call
    except grpc.aio.AioRpcError as error:
        return error.code()
    return Code.OK


async def until(condition: Callable[[], Awaitable[bool]], within: float = 20) -> None:
    async with asyncio.timeout(within):
        while not await condition():
            await asyncio.sleep(0.02)


# ---- as one ----


async def test_calls_are_shared(several: World) -> None:
    before = await taken(several)
    assert set(await many(several, 300)) == {Code.OK}
    given = await taken(several) - before
    assert len(given) == 3
    assert given.total() == 300
    assert min(given.values()) > 60


async def test_each_of_them_teaches_the_lane(several: World) -> None:
    """Were their words for what lessons rest on not the same, those of two in three would count for nothing."""
    callers = [several.bearer(sub=f"caller-{number}") for number in range(30)]
    for _ in range(2):
        before = await carried(several)
        for caller in callers:
            await several.channel.unary_unary(INFER)(PLAIN, metadata=[caller], timeout=10)
    assert await carried(several) - before > 25


PLAIN = worlds.pb.ModelInferRequest(model_name="digits", id="7").SerializeToString()


async def test_all_decide_by_what_is_in_force(several: World) -> None:
    several.configure(lambda config: config["grants"][0].update(models=["small"]))

    async def refused_now() -> bool:
        return set(await many(several, 30)) == {Code.PERMISSION_DENIED}

    await until(refused_now)
    before = await taken(several)
    assert set(await many(several)) == {Code.PERMISSION_DENIED}
    assert len(await taken(several) - before) == 3


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


# ---- the one on call ----


async def replaced(world: World, before: list[psutil.Process]) -> None:
    """Return once there are as many as before, all take calls, and no call is lost any more."""

    await until(all_take_calls(world))
    now = further()
    assert len(now) == len(before)
    assert now != before


async def test_one_that_dies_takes_its_own_calls_along_and_no_others(
    several: World, caplog: pytest.LogCaptureFixture
) -> None:
    before = further()
    await many(several, 30)
    before[0].kill()

    async def told() -> bool:
        return "was killed by signal 9; starting another" in caplog.text

    await until(told)
    assert set(await many(several, 100)) == {Code.OK}
    await replaced(several, before)


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


async def test_what_cannot_be_started_is_tried_again(
    several: World, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    start, full = siblings._Sibling, ["no room", "no room"]

    def failing(socket: Path, place: int) -> siblings._Sibling:
        if full:
            raise BlockingIOError(11, full.pop())
        return start(socket, place)

    monkeypatch.setattr(siblings, "_Sibling", failing)
    before = further()
    before[0].kill()
    await replaced(several, before)
    assert caplog.text.count("cannot be started: no room; it is tried again") == 2


async def test_one_that_has_other_keys_teaches_nothing_and_does_not_stop_the_lane(several: World) -> None:
    callers = [several.bearer(sub=f"caller-{number}") for number in range(30)]

    async def call_all(metadata: list[tuple[str, str]]) -> int:
        before = await carried(several)
        for one in metadata:
            await several.channel.unary_unary(INFER)(PLAIN, metadata=[one], timeout=10)
        return await carried(several) - before

    await call_all(callers)
    (several.folder / "jwks.json").write_bytes(several.issuer.jwks(Issuer(kid="another")))
    before = further()
    before[0].kill()  # the one that takes its place has both
    await replaced(several, before)
    assert await call_all(callers) > 25
    for turn in range(3):
        await call_all([several.bearer(sub=f"new-{turn}-{number}") for number in range(10)])
        assert await call_all(callers) > 25


async def test_one_that_comes_later_knows_what_has_changed(several: World) -> None:
    several.configure(lambda config: config["grants"][0].update(models=["small"]))

    async def refused_now() -> bool:
        return set(await many(several, 30)) == {Code.PERMISSION_DENIED}

    await until(refused_now)
    for one in further():
        one.kill()

    async def there_again() -> bool:
        before = await taken(several)
        assert set(await many(several, 30)) <= {Code.PERMISSION_DENIED, Code.UNAVAILABLE}
        return len(await taken(several) - before) == 3

    await until(there_again)


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
        async with worlds.world(tmp_path, three, express=True) as world:
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
