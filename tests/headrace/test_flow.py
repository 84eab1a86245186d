"""Calls without end: what is counted, and that a failed call ends it all."""

from __future__ import annotations

import asyncio
import itertools

import numpy as np
import pytest

from headrace.client import Answer, Refused
from headrace.demo.flow import AT_ONCE, flowing, share, until
from headrace.failure import CommandError


def answer(version: str) -> Answer:
    return Answer(version, np.zeros((1, 10), np.float32))


async def test_calls_flow_until_the_end() -> None:
    versions = itertools.cycle("1112")
    running = most = 0

    async def call() -> Answer:
        nonlocal running, most
        running += 1
        most = max(most, running)
        await asyncio.sleep(0.001)
        running -= 1
        return answer(next(versions))

    async with flowing(call) as flow:
        calls = await flow.more(100)
    assert running == 0
    assert len(flow.answered) >= len(calls) >= 100
    assert most == AT_ONCE
    assert share(flow.answered, "2") == pytest.approx(0.25, abs=0.02)
    assert flow.slowest == max(one.took for one in flow.answered) >= 0.001


async def test_a_failed_call_ends_the_inside() -> None:
    numbers = itertools.count()

    async def call() -> Answer:
        await asyncio.sleep(0.001)
        if next(numbers) == 5:
            raise Refused("UNAVAILABLE", "MODEL_NOT_READY", "no copy of the model is ready")
        return answer("1")

    with pytest.raises(CommandError, match="a call failed that the mesh should have carried: UNAVAILABLE"):
        async with flowing(call):
            await asyncio.sleep(60)


async def test_a_call_that_fails_at_the_end_is_told_as_well() -> None:
    """It was under way when the inside was left."""
    left = asyncio.Event()

    async def call() -> Answer:
        await left.wait()
        raise Refused("UNAVAILABLE", "MODEL_NOT_READY", "no copy of the model is ready")

    async def work() -> None:
        async with flowing(call):
            await asyncio.sleep(0)
            left.set()

    with pytest.raises(CommandError, match="a call failed that the mesh should have carried: UNAVAILABLE"):
        await work()


async def test_what_else_goes_wrong_is_told_as_it_is() -> None:
    async def call() -> Answer:
        await asyncio.sleep(0)
        raise LookupError("an answer without a version")

    with pytest.raises(LookupError, match="an answer without a version"):
        async with flowing(call):
            await asyncio.sleep(60)
    with pytest.raises(CommandError, match="within the inside"):
        async with flowing(lambda: asyncio.sleep(0.001, answer("1"))):
            raise CommandError("within the inside")


async def test_a_cancellation_from_outside_stays_one() -> None:
    async def call() -> Answer:
        await asyncio.sleep(0.001)
        return answer("1")

    async def work() -> None:
        async with flowing(call) as flow:
            begun.set()
            await flow.more(10**6)

    begun = asyncio.Event()
    task = asyncio.create_task(work())
    await begun.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_what_does_not_come_true_is_told() -> None:
    async def never() -> bool:
        return False

    with pytest.raises(CommandError, match=r"it did not happen within 0.05 s"):
        await until(never, "it did not happen", 0.05)
