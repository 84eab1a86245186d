"""Which requests run together, and when. Law: `plan` decides, on values alone; `Batcher` waits, runs and hands back.

The rules are those of Triton's dynamic batcher: requests run in the order they came; a batch is at most
`max_batch_size`, goes at once when it has a preferred size (without any: the greatest) or cannot grow, and otherwise
when its oldest request has waited for the delay. Work that is out of time, or whose caller has gone, is never run.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import islice
from typing import Final, Generic, NamedTuple, TypeVar

from protos import of_call
from workers.config import Batching
from workers.errors import not_ready, out_of_time, overloaded
from workers.reading import Signature

W = TypeVar("W")
R = TypeVar("R")
I = TypeVar("I")  # noqa: E741 - Instance, as the others are Work and Result


class Run(NamedTuple):
    """Run the first `jobs` of the queue together, now."""

    jobs: int


class Wait(NamedTuple):
    """Nothing yet; look again after so many seconds (None: no hurry), or when the queue has changed."""

    seconds: float | None


@dataclass(frozen=True, slots=True)
class Rules:
    """How one model's requests are put together. `batching` None: each runs alone. `queue`: the most that may wait."""

    max_batch_size: int
    batching: Batching | None
    queue: int


def plan(waiting: Sequence[tuple[int, Signature]], age: float, rules: Rules) -> Run | Wait:
    """What to do with the requests that wait, oldest first, as (batch size, signature); there is at least one.

    `age` is how many seconds the oldest has waited.
    """
    batching = rules.batching
    if batching is None:
        return Run(1)
    preferred = batching.preferred or (rules.max_batch_size,)
    total, best, full = 0, 0, False
    for count, (size, signature) in enumerate(waiting):
        if count and (total + size > rules.max_batch_size or signature != waiting[0][1]):
            full = True
            break
        if count and not best and total + size > preferred[-1]:
            best = count
        total += size
        if total in preferred:
            best = count + 1
    taken = count if full else len(waiting)
    ripe = age >= batching.delay
    if best and not (ripe and batching.delay):
        return Run(best)
    if full or ripe or total >= preferred[-1]:
        return Run(taken)
    return Wait(batching.delay - age)


@dataclass(slots=True, eq=False)
class Job(Generic[W, R]):
    """One request in the queue. `queued` is when it came, in seconds of the loop's clock."""

    work: W
    batch: int
    signature: Signature
    queued: float
    outcome: asyncio.Future[R]
    timer: asyncio.TimerHandle | None = None
    begun: bool = False


Execute = Callable[[I, Sequence[Job[W, R]]], Awaitable[Sequence[R]]]


class Batcher(Generic[I, W, R]):
    """A bounded queue, and one task for each instance that takes from it.

    `execute` runs jobs together on an instance and returns a result for each.
    """

    def __init__(self, model: str, rules: Rules, instances: Sequence[I], execute: Execute[I, W, R]) -> None:
        self._model: Final = model
        self._rules: Final = rules
        self._execute: Final = execute
        self._queue: deque[Job[W, R]] = deque()
        self._changed = asyncio.Event()
        self._tasks = [asyncio.create_task(self._serve(instance), context=of_call.nobodys()) for instance in instances]

    async def submit(self, work: W, batch: int, signature: Signature, within: float | None) -> R:
        """The result of the work, or of what `execute` raised.

        `within` seconds it must have begun: then DEADLINE. Raises OVERLOADED where the queue is full. Cancelled, the
        work leaves the queue.
        """
        if within is not None and within <= 0:
            raise out_of_time()
        if len(self._queue) >= self._rules.queue:
            raise overloaded(self._model)
        loop = asyncio.get_running_loop()
        job: Job[W, R] = Job(work, batch, signature, loop.time(), loop.create_future())
        if within is not None:
            job.timer = loop.call_later(within, self._expire, job)
        self._queue.append(job)
        self._changed.set()
        try:
            return await job.outcome
        finally:
            self._forget(job)

    @property
    def waiting(self) -> int:
        """How many requests are in the queue. Any thread may ask."""
        return len(self._queue)

    async def close(self) -> None:
        """End the tasks; whoever still waits, in the queue or for what runs, is told that the model is not ready."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for job in tuple(self._queue):
            _settle(job, not_ready(self._model))
            self._forget(job)

    def _expire(self, job: Job[W, R]) -> None:
        if not job.begun:
            _settle(job, out_of_time())
            self._forget(job)

    def _forget(self, job: Job[W, R]) -> None:
        if job.timer is not None:
            job.timer.cancel()
        if not job.begun:
            job.begun = True
            self._queue.remove(job)

    async def _serve(self, instance: I) -> None:
        while True:
            jobs = await self._take()
            try:
                _hand_back(jobs, await self._execute(instance, jobs))
            except asyncio.CancelledError:
                for job in jobs:
                    _settle(job, not_ready(self._model))
                raise
            except Exception as error:  # noqa: BLE001 - it belongs to those who wait
                for job in jobs:
                    _settle(job, error)

    async def _take(self) -> list[Job[W, R]]:
        """The next jobs to run together, taken off the queue."""
        while True:
            step = self._step()
            if isinstance(step, Run):
                jobs = [self._queue.popleft() for _ in range(step.jobs)]
                for job in jobs:
                    job.begun = True
                return jobs
            self._changed.clear()
            with suppress(TimeoutError):
                async with asyncio.timeout(step.seconds):
                    await self._changed.wait()

    def _step(self) -> Run | Wait:
        if not self._queue:
            return Wait(None)
        heads = islice(self._queue, self._rules.max_batch_size + 1)  # more can be in no batch
        age = asyncio.get_running_loop().time() - self._queue[0].queued
        return plan([(job.batch, job.signature) for job in heads], age, self._rules)


def _hand_back(jobs: Sequence[Job[W, R]], results: Sequence[R]) -> None:
    """To each its own, or to none: which is whose is not known where there are too many or too few."""
    if len(results) != len(jobs):
        raise ValueError(f"{len(results)} results for {len(jobs)} requests")
    for job, result in zip(jobs, results, strict=True):
        if not job.outcome.done():
            job.outcome.set_result(result)


def _settle(job: Job[W, R], error: Exception) -> None:
    if not job.outcome.done():
        job.outcome.set_exception(error)
