"""Which sequences a version keeps, and in what order."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from protos.errors import HeadraceError, Reason
from workers import sequences
from workers.sequences import Place, Sequences


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def kept(clock: Clock) -> Sequences:
    return Sequences("sum", 10.0, {}, clock)


async def take(kept: Sequences, id: int | str, act: Callable[[], object] = lambda: None, **flags: bool) -> None:
    async with kept.turn(Place(id, flags.get("start", False), flags.get("end", False))):
        act()


async def known(kept: Sequences, id: int | str) -> bool:
    try:
        await take(kept, id)
    except HeadraceError as error:
        if error.reason is not Reason.SEQUENCE_LOST:
            raise
        return False
    return True


async def test_silence_is_counted_from_the_last_request(kept: Sequences, clock: Clock) -> None:
    await take(kept, 1, start=True)
    await take(kept, 2, start=True)
    clock.now += 9.0
    assert await known(kept, 1)
    clock.now += 9.0
    assert [await known(kept, 1), await known(kept, 2)] == [True, False]
    clock.now += 10.0
    assert not await known(kept, 1)


async def test_one_that_is_at_work_is_not_silent(kept: Sequences, clock: Clock) -> None:
    await take(kept, 1, start=True)
    async with kept.turn(Place(1, starts=False, ends=False)):
        clock.now += 60.0
        await take(kept, 2, start=True)
    assert await known(kept, 1)


async def test_there_are_not_too_many(kept: Sequences, clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sequences, "_MOST", 2)
    await take(kept, 1, start=True)
    await take(kept, 2, start=True)
    with pytest.raises(HeadraceError) as caught:
        await take(kept, 3, start=True)
    assert caught.value.reason is Reason.OVERLOADED
    await take(kept, 2, start=True)  # it begins anew
    await take(kept, 1, end=True)
    await take(kept, 3, start=True)
    clock.now += 10.0
    await take(kept, 4, start=True)


async def test_turns_are_in_order_and_one_that_never_began_is_not_there(kept: Sequences) -> None:
    order: list[int] = []
    async with asyncio.TaskGroup() as tasks:
        for number in range(5):
            tasks.create_task(take(kept, 1, lambda number=number: order.append(number), start=number == 0))
    assert order == list(range(5))

    async def fail() -> None:
        async with kept.turn(Place(2, starts=True, ends=False)):
            await asyncio.sleep(0)
            raise ZeroDivisionError

    begun = asyncio.create_task(fail())
    await asyncio.sleep(0)
    waits = asyncio.create_task(known(kept, 2))
    with pytest.raises(ZeroDivisionError):
        await begun
    assert not await waits


async def test_an_end_that_fails_may_be_sent_again(kept: Sequences) -> None:
    await take(kept, 1, start=True)
    with pytest.raises(ZeroDivisionError):
        await take(kept, 1, lambda: 1 / 0, end=True)
    await take(kept, 1, end=True)
    assert not await known(kept, 1)


async def test_one_that_is_cancelled_while_it_waits_leaves_the_others_alone(kept: Sequences) -> None:
    async with kept.turn(Place(1, starts=True, ends=False)):
        waits = asyncio.create_task(known(kept, 1))
        await asyncio.sleep(0)
        waits.cancel()
    await asyncio.gather(waits, return_exceptions=True)
    assert await known(kept, 1)
