"""One thing at a time, in order, off the loop."""

from __future__ import annotations

import asyncio
import threading

import pytest

from tests.workers.conftest import until
from workers.lane import Lane


@pytest.fixture
def lane():
    lane = Lane("test-lane")
    yield lane
    lane.close(lambda: None)


async def test_things_run_in_order_in_one_other_thread(lane: Lane) -> None:
    seen: list[tuple[int, int]] = []
    outcomes = [lane.run(lambda at=at: seen.append((at, threading.get_ident())) or at) for at in range(20)]
    assert await asyncio.gather(*outcomes) == list(range(20))
    assert [at for at, _ in seen] == list(range(20))
    assert len({thread for _, thread in seen}) == 1
    assert seen[0][1] != threading.get_ident()


async def test_what_is_raised_comes_back_and_the_lane_goes_on(lane: Lane) -> None:
    with pytest.raises(ZeroDivisionError):
        await lane.run(lambda: 1 // 0)
    assert await lane.run(lambda: 7) == 7


@pytest.mark.parametrize("raised", [StopIteration("x"), SystemExit(3), KeyboardInterrupt()])
async def test_code_that_ends_itself_ends_nothing_else(lane: Lane, raised: BaseException) -> None:
    def ends() -> None:
        raise raised

    with pytest.raises(RuntimeError, match=type(raised).__name__):
        await lane.run(ends)
    assert await lane.run(lambda: 7) == 7


async def test_it_says_for_how_long_it_has_been_busy(lane: Lane) -> None:
    assert lane.busy() == 0
    gate = threading.Event()
    waits = lane.run(gate.wait, 10)
    await until(lambda: lane.busy() > 0.02)
    gate.set()
    await waits
    await until(lambda: lane.busy() == 0)


async def test_nobody_need_wait(lane: Lane) -> None:
    gate = threading.Event()
    waits = lane.run(gate.wait, 10)
    waits.cancel()
    after = lane.run(lambda: 7)
    gate.set()
    assert await after == 7


async def test_closed_it_does_a_last_thing_and_its_thread_ends(caplog: pytest.LogCaptureFixture) -> None:
    lane = Lane("test-lane-that-ends")
    lane.close(lambda: 1 // 0)
    await until(lambda: "test-lane-that-ends" not in {thread.name for thread in threading.enumerate()})
    assert "did not end well" in caplog.text
