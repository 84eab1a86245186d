"""Who runs together, and when."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from types import SimpleNamespace

import pytest
from opentelemetry.trace import INVALID_SPAN

from protos import of_call
from protos.errors import HeadraceError, Reason
from tests.workers.conftest import until
from workers.batcher import Batcher, Job, Rules, Run, Wait, plan
from workers.config import Batching

A, B = (("x", (2,)),), (("x", (3,)),)
EAGER = Rules(8, Batching(), 100)
PATIENT = Rules(8, Batching(delay=1.0), 100)
PREFERS = Rules(8, Batching(delay=1.0, preferred=(2, 4)), 100)
PREFERS_EAGERLY = Rules(8, Batching(preferred=(2, 4)), 100)
ALONE = Rules(8, None, 100)


@pytest.mark.parametrize(
    ("rules", "waiting", "age", "step"),
    [
        (ALONE, [(1, A), (1, A)], 0.0, Run(1)),
        (EAGER, [(1, A), (1, A)], 0.0, Run(2)),
        (EAGER, [(4, A), (4, A), (1, A)], 0.0, Run(2)),
        (EAGER, [(5, A), (4, A)], 0.0, Run(1)),
        (EAGER, [(1, A), (1, B), (1, A)], 0.0, Run(1)),
        (PATIENT, [(1, A)], 0.25, Wait(0.75)),
        (PATIENT, [(1, A)], 1.0, Run(1)),
        (PATIENT, [(4, A), (4, A)], 0.0, Run(2)),
        (PATIENT, [(5, A), (4, A)], 0.0, Run(1)),
        (PATIENT, [(1, A), (1, B)], 0.0, Run(1)),
        (PREFERS, [(1, A)], 0.0, Wait(1.0)),
        (PREFERS, [(1, A), (1, A)], 0.0, Run(2)),
        (PREFERS, [(1, A)] * 3, 0.0, Run(2)),
        (PREFERS, [(1, A)] * 5, 0.0, Run(4)),
        (PREFERS, [(1, A)] * 3, 1.0, Run(3)),
        (PREFERS, [(3, A), (2, A)], 0.0, Run(1)),
        (PREFERS, [(3, A)], 0.5, Wait(0.5)),
        (PREFERS_EAGERLY, [(1, A)], 0.0, Run(1)),
        (PREFERS_EAGERLY, [(1, A)] * 5, 0.0, Run(4)),
        (PREFERS_EAGERLY, [(1, A)] * 3, 9.0, Run(2)),
    ],
)
def test_plan(rules: Rules, waiting: list[tuple[int, object]], age: float, step: Run | Wait) -> None:
    assert plan(waiting, age, rules) == step


class Kitchen:
    """Runs what it is given when it is let, and writes down what that was."""

    def __init__(self) -> None:
        self.ran: list[list[int]] = []
        self.busy = 0
        self.open = asyncio.Event()

    async def execute(self, _: None, jobs: Sequence[Job[int, int]]) -> list[int]:
        self.busy += 1
        self.ran.append([job.work for job in jobs])
        await self.open.wait()
        self.busy -= 1
        return [job.work * 10 for job in jobs]


@pytest.fixture
async def kitchen():
    kitchen = Kitchen()
    batchers: list[Batcher[None, int, int]] = []

    def begin(rules: Rules, instances: int = 1) -> Batcher[None, int, int]:
        batchers.append(Batcher("m", rules, [None] * instances, kitchen.execute))
        return batchers[-1]

    kitchen.begin = begin
    yield kitchen
    for batcher in batchers:
        await batcher.close()


async def busy_with_0(kitchen: Kitchen, batcher: Batcher[None, int, int]) -> asyncio.Task[int]:
    task = asyncio.create_task(batcher.submit(0, 1, A, None))
    await until(lambda: kitchen.ran == [[0]])
    return task


def ask(batcher: Batcher[None, int, int], *works: int, within: float | None = None) -> list[asyncio.Task[int]]:
    return [asyncio.create_task(batcher.submit(work, 1, A, within)) for work in works]


async def test_those_who_wait_together_run_together_and_each_gets_its_own(kitchen: Kitchen) -> None:
    batcher = kitchen.begin(EAGER)
    first = await busy_with_0(kitchen, batcher)
    rest = ask(batcher, 1, 2, 3)
    await asyncio.sleep(0)
    kitchen.open.set()
    assert await asyncio.gather(first, *rest) == [0, 10, 20, 30]
    assert kitchen.ran == [[0], [1, 2, 3]]


async def test_a_lone_request_goes_when_its_delay_is_over(kitchen: Kitchen) -> None:
    kitchen.open.set()
    batcher = kitchen.begin(Rules(8, Batching(delay=0.05), 100))
    began = asyncio.get_running_loop().time()
    assert await batcher.submit(1, 1, A, None) == 10
    assert asyncio.get_running_loop().time() - began >= 0.05


async def test_a_full_queue_sheds_and_says_when_to_come_back(kitchen: Kitchen) -> None:
    batcher = kitchen.begin(Rules(8, None, 2))
    first = await busy_with_0(kitchen, batcher)
    rest = ask(batcher, 1, 2)
    await asyncio.sleep(0)
    with pytest.raises(HeadraceError) as caught:
        await batcher.submit(3, 1, A, None)
    assert caught.value.reason is Reason.OVERLOADED
    assert caught.value.retry_after
    kitchen.open.set()
    assert await asyncio.gather(first, *rest) == [0, 10, 20]


async def test_work_whose_caller_has_gone_is_not_run_and_makes_room(kitchen: Kitchen) -> None:
    batcher = kitchen.begin(Rules(8, None, 2))
    first = await busy_with_0(kitchen, batcher)
    gone, stays = ask(batcher, 1, 2)
    await asyncio.sleep(0)
    gone.cancel()
    await asyncio.wait([gone])
    (late,) = ask(batcher, 3)
    kitchen.open.set()
    assert await asyncio.gather(first, stays, late) == [0, 20, 30]
    assert kitchen.ran == [[0], [2], [3]]


async def test_work_out_of_time_is_not_run(kitchen: Kitchen) -> None:
    batcher = kitchen.begin(EAGER)
    first = await busy_with_0(kitchen, batcher)
    (hasty,) = ask(batcher, 1, within=0.02)
    (patient,) = ask(batcher, 2, within=60)
    await asyncio.wait([hasty])
    with pytest.raises(HeadraceError) as caught:
        await hasty
    assert caught.value.reason is Reason.DEADLINE
    kitchen.open.set()
    assert await asyncio.gather(first, patient) == [0, 20]
    assert kitchen.ran == [[0], [2]]
    with pytest.raises(HeadraceError):
        await batcher.submit(3, 1, A, 0.0)


async def test_time_spent_running_is_not_the_queues(kitchen: Kitchen) -> None:
    batcher = kitchen.begin(EAGER)
    (task,) = ask(batcher, 1, within=0.02)
    await until(lambda: kitchen.busy == 1)
    await asyncio.sleep(0.04)
    kitchen.open.set()
    assert await task == 10


async def test_instances_run_side_by_side(kitchen: Kitchen) -> None:
    batcher = kitchen.begin(ALONE, instances=2)
    tasks = ask(batcher, 1, 2, 3)
    await until(lambda: kitchen.busy == 2)
    await asyncio.sleep(0)
    assert kitchen.ran == [[1], [2]]
    kitchen.open.set()
    assert await asyncio.gather(*tasks) == [10, 20, 30]


async def test_a_failure_reaches_all_of_the_batch_and_no_one_else() -> None:
    async def execute(_: None, jobs: Sequence[Job[int, int]]) -> list[int]:
        if jobs[0].work == 1:
            raise ZeroDivisionError
        return [0 for _ in jobs]

    batcher: Batcher[None, int, int] = Batcher("m", EAGER, [None], execute)
    outcomes = await asyncio.gather(*ask(batcher, 1, 2), return_exceptions=True)
    assert [type(outcome) for outcome in outcomes] == [ZeroDivisionError] * 2
    assert await batcher.submit(3, 1, A, None) == 0
    await batcher.close()


@pytest.mark.parametrize("results", [1, 3])
async def test_a_wrong_count_of_results_reaches_all_of_the_batch_and_no_one_else(results: int) -> None:
    async def execute(_: None, jobs: Sequence[Job[int, int]]) -> list[int]:
        return [0] * (results if jobs[0].work == 1 else len(jobs))

    batcher: Batcher[None, int, int] = Batcher("m", EAGER, [None], execute)
    async with asyncio.timeout(5):
        outcomes = await asyncio.gather(*ask(batcher, 1, 2), return_exceptions=True)
        assert [str(outcome) for outcome in outcomes] == [f"{results} results for 2 requests"] * 2
        assert await batcher.submit(3, 1, A, None) == 0
    await batcher.close()


async def test_what_it_runs_is_not_of_the_call_that_began_it() -> None:
    whose: list[object] = []

    async def execute(_: None, jobs: Sequence[Job[int, int]]) -> list[int]:
        whose.append(of_call.now())
        return [0 for _ in jobs]

    async def load() -> Batcher[None, int, int]:
        of_call.begin(SimpleNamespace(request_id="of-the-load", span=INVALID_SPAN))
        return Batcher("m", EAGER, [None], execute)

    batcher = await asyncio.create_task(load())
    await batcher.submit(1, 1, A, None)
    await batcher.close()
    assert whose == [None]


async def test_closed_it_tells_those_whose_work_runs(kitchen: Kitchen) -> None:
    batcher = kitchen.begin(EAGER)
    runs = await busy_with_0(kitchen, batcher)
    await batcher.close()
    async with asyncio.timeout(5):
        with pytest.raises(HeadraceError) as caught:
            await runs
    assert caught.value.reason is Reason.MODEL_NOT_READY


async def test_closed_it_tells_those_who_wait(kitchen: Kitchen) -> None:
    batcher = kitchen.begin(EAGER)
    await busy_with_0(kitchen, batcher)
    (waits,) = ask(batcher, 1)
    await asyncio.sleep(0)
    await batcher.close()
    with pytest.raises(HeadraceError) as caught:
        await waits
    assert caught.value.reason is Reason.MODEL_NOT_READY
