"""The lane over many calls and many callers: what it holds stays bounded."""

from __future__ import annotations

import asyncio
from pathlib import Path

import psutil
import pytest

from tests.envoy import needs_envoy
from tests.gateway import world as worlds
from tests.gateway.world import INFER, World
from tests.headrace.test_express import MESSAGE, envoys, until_carried

pytestmark = [needs_envoy, pytest.mark.soak, pytest.mark.timeout(900)]

MIB = 1024 * 1024
AT_ONCE = 32


async def called(world: World, bearers: list[tuple[str, str]], calls: int) -> None:
    """So many calls, by turns with each of the tokens."""
    method = world.channel.unary_unary(INFER)
    numbers = iter(range(calls))

    async def some() -> None:
        for number in numbers:
            await method(MESSAGE, metadata=[bearers[number % len(bearers)]], timeout=30)

    await asyncio.gather(*(some() for _ in range(AT_ONCE)))


def resident(envoy: psutil.Process) -> int:
    return int(envoy.memory_info().rss)


async def test_a_hundred_thousand_calls_leave_nothing_behind(tmp_path: Path) -> None:
    async with worlds.world(tmp_path, express=True) as world:
        await until_carried(world)
        (envoy,) = envoys(tmp_path)
        await called(world, [world.bearer()], 20_000)
        before = resident(envoy)
        await called(world, [world.bearer()], 100_000)
        assert resident(envoy) - before < 8 * MIB


async def test_tokens_without_end_take_bounded_room(tmp_path: Path) -> None:
    """A table of 32 MiB twice, and what LuaJIT has not collected yet: as much again three times."""
    async with worlds.world(tmp_path, express=True) as world:
        await until_carried(world)
        (envoy,) = envoys(tmp_path)
        before, sizes = resident(envoy), []
        for turn in range(8):
            tokens = [world.bearer(jti=f"{turn}-{at}") for at in range(15_000)]
            world.tokens.clear()
            await called(world, tokens, len(tokens))
            sizes.append(resident(envoy))
        assert sizes[-1] - sizes[3] < 48 * MIB
        assert sizes[-1] - before < 256 * MIB
