from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import AsyncIterator

import pytest

from mesh.testing.thread import beside


@contextlib.asynccontextmanager
async def noted(seen: list[str], fails: str = "") -> AsyncIterator[str]:
    try:
        seen.append("entered")
        if fails == "entering":
            raise OSError(fails)
        work = asyncio.create_task(forever(seen))
        await asyncio.sleep(0)
        yield "value"
        work.cancel()
    finally:
        seen.append("left")
        if fails == "leaving":
            raise OSError(fails)


async def forever(seen: list[str]) -> None:
    try:
        await asyncio.Event().wait()
    finally:
        seen.append("work ended")


async def name_of_thread() -> str:
    return threading.current_thread().name


def test_it_lives_in_a_thread_of_its_own() -> None:
    seen: list[str] = []
    with beside(noted(seen)) as made:
        assert made.value == "value"
        assert made.run(name_of_thread()) == "mesh"
        assert seen == ["entered"]
    assert sorted(seen) == ["entered", "left", "work ended"]
    assert "mesh" not in {thread.name for thread in threading.enumerate()}


def test_what_entering_raises_is_raised() -> None:
    seen: list[str] = []
    with pytest.raises(OSError, match="entering"), beside(noted(seen, "entering")):
        pytest.fail("it was not entered")
    assert seen == ["entered", "left"]


def test_what_leaving_raises_is_raised() -> None:
    with pytest.raises(OSError, match="leaving"), beside(noted([], "leaving")):
        pass


def test_it_is_left_however_the_test_ends() -> None:
    seen: list[str] = []
    with pytest.raises(KeyboardInterrupt), beside(noted(seen)):
        raise KeyboardInterrupt
    assert "left" in seen


def test_what_work_raises_is_raised_and_it_lives_on() -> None:
    async def fails() -> None:
        raise LookupError("nothing there")

    with beside(noted([])) as made:
        with pytest.raises(LookupError, match="nothing there"):
            made.run(fails())
        assert made.run(name_of_thread()) == "mesh"
