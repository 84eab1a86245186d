"""Several gateway processes behind one door, the same for all tests: they share calls, decide alike, are replaced."""

from __future__ import annotations

import asyncio
import collections
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import psutil
import pytest
import pytest_asyncio

from headrace import siblings
from tests.envoy import needs_envoy
from tests.gateway import world as worlds
from tests.gateway.tokens import Issuer
from tests.gateway.world import INFER, World
from tests.headrace.test_express import carried, infer, pages, with_parameter
from tests.scraped import scraped

pytestmark = [needs_envoy, pytest.mark.asyncio(loop_scope="module")]

Code = grpc.StatusCode
PYTHONS = with_parameter()  # which the lane cannot carry


def three(config: dict[str, Any]) -> None:
    config["listen"]["processes"] = 3


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def up(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[World]:
    async with worlds.world(tmp_path_factory.mktemp("several"), three, express=True) as made:
        yield made


@pytest_asyncio.fixture(loop_scope="module")
async def several(up: World) -> AsyncIterator[World]:
    """The world of this module, as it was in the beginning and is to be in the end."""
    config, keys = ((up.folder / name).read_bytes() for name in FILES)
    await until(all_take_calls(up))
    yield up
    (up.folder / "jwks.json").write_bytes(keys)
    up.configure(lambda now: now.update(json.loads(config)))


FILES = ("headrace.yaml", "jwks.json")


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


# ---- what they count ----

CALLS = "headrace_calls_total"


async def test_what_all_of_them_have_counted_is_told_as_one(several: World) -> None:
    before = await scraped(several.admin)
    await many(several, 60)
    now = await scraped(several.admin)
    assert now.sum(CALLS, lane="python", status="OK") == before.sum(CALLS, lane="python", status="OK") + 60
    assert now.sum("headrace_ready") == now.sum("headrace_build_info") == 1  # which one alone tells
    assert now.sum("headrace_config_generation") == before.sum("headrace_config_generation")
    assert now.sum("process_thread_count") > 20  # of three


async def test_one_that_dies_takes_no_number_along(several: World) -> None:
    await many(several, 60)
    before = await scraped(several.admin)
    further()[0].kill()
    since: list[Code] = []

    async def three_take_calls() -> bool:
        given = await taken(several)
        since.extend(await many(several, 30))
        return len(await taken(several) - given) == 3

    await until(three_take_calls)
    now = await scraped(several.admin)
    assert now.sum(CALLS, status="OK") == before.sum(CALLS, status="OK") + since.count(Code.OK)


async def test_one_that_hangs_costs_a_second_and_no_number(several: World) -> None:
    before = await scraped(several.admin)
    one = further()[0]
    one.suspend()
    try:
        began = asyncio.get_running_loop().time()
        now = await scraped(several.admin)
        assert asyncio.get_running_loop().time() - began < 3
    finally:
        one.resume()
    for labels, number in before.all(CALLS).items():
        assert now.all(CALLS)[labels] >= number


async def test_its_numbers_are_for_the_first_alone(several: World) -> None:
    for path in several.folder.glob("*.numbers"):
        assert path.stat().st_mode & 0o077 == 0
