"""The configuration changes while the gateway runs: over both lanes, within a second, and never for the worse."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import aiohttp
import grpc
import psutil
import pytest
import pytest_asyncio

from gateway import live
from gateway.in_force import InForce
from gateway.live import Source, changed
from gateway.settings import Settings, load
from protos import grpc_service_pb2 as pb
from tests.envoy import needs_envoy
from tests.gateway import world as worlds
from tests.gateway.test_service import refused
from tests.gateway.tokens import Issuer
from tests.gateway.world import INFER, STREAM, Worker, World, running

Config = dict[str, Any]
SOON = 1.0  # seconds, and what a busy machine adds
LATE = 3.0


def two_processes(config: Config) -> None:
    config["listen"]["processes"] = 2


@pytest_asyncio.fixture(
    params=["python", *(pytest.param(lane, marks=needs_envoy) for lane in ("express", "several processes"))]
)
async def lanes(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[World]:
    """A gateway by each of its lanes, and of several processes."""
    change = two_processes if request.param == "several processes" else lambda _config: None
    async with worlds.world(tmp_path, change, express=request.param != "python") as made:
        yield made


@pytest.fixture
def quick(lanes: World, monkeypatch: pytest.MonkeyPatch) -> World:
    """The same, which looks at its file more often than it would."""
    monkeypatch.setattr(live, "_LOOK", 0.005)
    monkeypatch.setattr(live, "_AGAIN", 0.1)
    return lanes


async def until(condition: Callable[[], Awaitable[bool]]) -> float:
    """Seconds until it holds."""
    began = time.monotonic()
    async with asyncio.timeout(SOON + LATE):
        while not await condition():
            await asyncio.sleep(0.02)
    return time.monotonic() - began


async def answers(world: World, model: str = "digits", version: str = "") -> str:
    """The model that answers, or the reason why none does."""
    try:
        return (await world.infer(model, version)).model_name
    except grpc.aio.AioRpcError as error:
        return (await refused(raising(error))).reason


async def raising(error: grpc.aio.AioRpcError) -> None:
    raise error


async def test_a_grant_that_is_taken_away_opens_nothing_soon_after(lanes: World) -> None:
    assert await answers(lanes) == "digits"
    lanes.configure(lambda config: config["grants"][0].update(models=["small"]))

    async def refused_now() -> bool:
        return await answers(lanes) == "NOT_GRANTED"

    await until(refused_now)
    for _ in range(20):
        assert await answers(lanes) == "NOT_GRANTED"


async def test_a_model_that_is_new_is_served_by_copies_that_are_new(lanes: World) -> None:
    async with running(Worker()) as third:

        def added(config: Config) -> None:
            config["models"].append(config["models"][2] | {"name": "new", "host": "new.svc:8001"})
            config["upstream"]["endpoints"]["new"] = {"1": [third.address]}
            config["grants"][0]["models"].append("new")

        assert await answers(lanes, "new") == "NOT_GRANTED"
        lanes.configure(added)

        async def answered() -> bool:
            return await answers(lanes, "new") == "new"

        await until(answered)
        for _ in range(10):
            assert await answers(lanes, "new") == "new"
        assert third.calls
        assert not [message for message in lanes.one.infers() if b"new" in message]


async def test_weights_move(lanes: World) -> None:
    assert await answers(lanes) == "digits"
    lanes.configure(lambda config: config["models"][0].update(traffic={"1": 0, "2": 100}))

    async def moved() -> bool:
        before = len(lanes.two.calls)
        await answers(lanes)
        return len(lanes.two.calls) > before

    await until(moved)
    before = len(lanes.one.calls)
    for _ in range(20):
        await answers(lanes)
    assert len(lanes.one.calls) == before


async def test_what_is_wrong_changes_nothing_and_is_told(quick: World, caplog: pytest.LogCaptureFixture) -> None:
    quick.configure(lambda config: config["grants"][0].update(models=["nowhere"]))

    async def told() -> bool:
        return "there is no model nowhere" in caplog.text

    await until(told)
    assert await answers(quick) == "digits"
    quick.configure(lambda config: config["grants"][0].update(models=["small"]))

    async def taken() -> bool:
        return await answers(quick) == "NOT_GRANTED"

    await until(taken)


async def test_what_takes_a_restart_is_told_and_the_rest_is_taken(
    lanes: World, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)

    def both(config: Config) -> None:
        config["listen"]["drain"] = "6s"
        config["models"][0]["max_request"] = "1GiB"
        config["grants"][0]["models"] = ["small"]

    lanes.configure(both)

    async def taken() -> bool:
        return await answers(lanes) == "NOT_GRANTED"

    await until(taken)
    assert "takes a restart: listen, models.max_request" in caplog.text
    async with aiohttp.ClientSession() as session, session.get(f"http://{lanes.admin}/config") as page:
        shown = await page.json(content_type=None)
    assert (shown["listen"]["drain"], shown["upstream"]["mode"]) == ("5s", "direct")
    assert shown["grants"][0]["models"] == ["small"]


async def test_a_hundred_changes_under_load_fail_no_call(quick: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Grants, weights, endpoints and models come and go; whoever is granted throughout notices nothing."""
    over = asyncio.Event()
    outcomes: list[str] = []
    taken: list[Settings] = []
    take = InForce.take

    def counted(in_force: InForce, settings: Settings, *more: Any, **options: Any) -> None:
        taken.append(settings)
        take(in_force, settings, *more, **options)

    monkeypatch.setattr(InForce, "take", counted)

    async def calling() -> None:
        while not over.is_set():
            outcomes.append(await answers(quick))

    one, two = quick.one.address, quick.two.address

    def changed_once(turn: int) -> Callable[[Config], None]:
        def change(config: Config) -> None:
            config["models"][0]["traffic"] = {"1": turn % 101, "2": 100 - turn % 101}
            config["upstream"]["endpoints"]["digits"]["1"] = [one, two] if turn % 2 else [one]
            config["grants"][1]["models"] = ["*"] if turn % 3 else ["digits"]

        return change

    callers = [asyncio.create_task(calling()) for _ in range(4)]
    for turn in range(100):
        quick.configure(changed_once(turn))
        async with asyncio.timeout(10):
            while len(taken) <= turn:
                await asyncio.sleep(0.005)
    over.set()
    await asyncio.gather(*callers)
    assert len(outcomes) > 100
    assert set(outcomes) == {"digits"}


async def test_each_message_of_a_stream_is_decided_by_what_holds_then(tmp_path: Path) -> None:
    async with worlds.world(tmp_path) as world:
        call = world.channel.stream_stream(STREAM)(metadata=[world.bearer()], timeout=30)
        message = pb.ModelInferRequest(model_name="digits", id="7").SerializeToString()

        async def told() -> str:
            await call.write(message)
            return pb.ModelStreamInferResponse.FromString(await call.read()).error_message

        assert await told() == ""
        world.configure(lambda config: config["grants"][0].update(models=["small"]))

        async def refused_now() -> bool:
            return "no grant" in await told()

        await until(refused_now)
        await call.done_writing()


async def test_channels_that_nothing_needs_any_more_are_closed(tmp_path: Path) -> None:
    """Once the last call that uses them has ended; and that call ends well."""
    reached, over = asyncio.Event(), asyncio.Event()

    async def slow(message: bytes, context: grpc.aio.ServicerContext) -> bytes:
        reached.set()
        await over.wait()
        return await worlds.echo(message, context)

    async with running(Worker()) as gone, worlds.world(tmp_path) as world:
        world.configure(lambda config: config["upstream"]["endpoints"]["digits"].update({"1": [gone.address]}))

        async def there() -> bool:
            await answers(world)
            return bool(gone.calls)

        await until(there)
        gone.behaviour[INFER] = slow
        running_call = asyncio.create_task(world.infer())
        await reached.wait()
        world.configure(lambda config: config["upstream"]["endpoints"]["digits"].update({"1": [world.two.address]}))

        async def left() -> bool:
            before = len(gone.calls)
            await answers(world)
            return len(gone.calls) == before

        gone.behaviour[INFER] = worlds.echo
        await until(left)
        assert connected(gone.address)
        over.set()
        assert (await running_call).id == "7"

        async def closed() -> bool:
            return not connected(gone.address)

        await until(closed)


def connected(address: str) -> bool:
    """Whether this process has a connection to the address that is not being closed."""
    port = int(address.rpartition(":")[2])
    found = psutil.Process().net_connections("tcp")
    return any(one.raddr and one.raddr.port == port and one.status == psutil.CONN_ESTABLISHED for one in found)


# ---- parts ----


def settings(tmp_path: Path, **more: Any) -> Settings:
    path = worlds.in_front_of("127.0.0.1:1", tmp_path, Issuer(), "digits", **more)
    return load(path, {})


def test_what_a_process_was_built_on_stays(tmp_path: Path) -> None:
    start = settings(tmp_path)
    found = settings(tmp_path, telemetry={"sample": 1.0}, grants=[])
    taken, waiting = changed(start, found, start.largest)
    assert waiting == ("telemetry",)
    assert (taken.telemetry, taken.issuers, taken.grants) == (start.telemetry, start.issuers, ())


def test_endpoints_of_another_mode_are_not_taken(tmp_path: Path) -> None:
    """They were written for that mode: what is in force would have none."""
    start = settings(tmp_path)
    found = settings(tmp_path, upstream={"mode": "mesh"}, grants=[])
    taken, waiting = changed(start, found, start.largest)
    assert waiting == ("upstream.mode", "models", "upstream.endpoints")
    assert (taken.upstream, taken.models, taken.grants) == (start.upstream, start.models, ())


def test_a_file_that_is_not_there_has_no_mark(tmp_path: Path) -> None:
    source = Source(tmp_path / "headrace.yaml", {})
    assert source.mark() is None
    source.path.write_text("a")
    first = source.mark()
    assert first == source.mark() != None  # noqa: E711 - a chain
    os.utime(source.path, ns=(1, 1))
    assert source.mark() != first


async def test_a_change_that_cannot_be_taken_is_told_and_the_next_one_is(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(live, "_LOOK", 0.01)
    monkeypatch.setattr(live, "_AGAIN", 0.02)
    source = Source(worlds.in_front_of("127.0.0.1:1", tmp_path, Issuer(), "digits"), {})
    taken = asyncio.Event()

    async def take(found: Settings) -> None:
        if not found.grants:
            taken.set()
        else:
            raise OSError(28, "No space left on device")

    following = asyncio.create_task(live.follow(source, take))
    await asyncio.sleep(0.05)
    worlds.in_front_of("127.0.0.1:1", tmp_path, Issuer(), "digits", telemetry={"sample": 0.5})
    while "No space left on device" not in caplog.text:
        await asyncio.sleep(0.01)
    worlds.in_front_of("127.0.0.1:1", tmp_path, Issuer(), "digits", grants=[])
    await asyncio.wait_for(taken.wait(), 10)
    following.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await following


async def test_a_shift_moves_new_sequences_only(lanes: World) -> None:
    def shifted(one: int) -> Callable[[Config], None]:
        return lambda config: config["models"][0].update(sequence=True, traffic={"1": one, "2": 100 - one})

    async def versions(*, start: bool = False, numbers: range = range(1, 21)) -> list[str]:
        async def version(number: int) -> str:
            request = pb.ModelInferRequest(model_name="digits")
            request.parameters["sequence_id"].int64_param = number
            request.parameters["sequence_start"].bool_param = start
            answer = await lanes.call("ModelInfer", request.SerializeToString())
            return pb.ModelInferResponse.FromString(answer).model_version

        return await asyncio.gather(*map(version, numbers))

    async def is_shifted() -> bool:
        return set(await versions(start=True, numbers=range(1000, 1040))) == {"2"}

    lanes.configure(shifted(50))

    async def is_drawn() -> bool:
        return set(await versions(start=True, numbers=range(1000, 1040))) == {"1", "2"}

    await until(is_drawn)
    began = await versions(start=True)
    assert set(began) == {"1", "2"}
    lanes.configure(shifted(0))
    await until(is_shifted)
    assert await versions() == began
    assert await versions(start=True) == ["2"] * 20
