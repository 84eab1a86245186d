"""Versions that answer a request as often as they like. Law: the reader of the answers sets their pace.

A request has an instance to itself; the next answer is asked for when the last one has been taken, so that nothing
piles up, and when the reader goes the generator is closed.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field

from opentelemetry.trace import SpanContext

from protos import grpc_service_pb2 as pb
from protos import model_config_pb2
from workers.batcher import Batcher, Job, Rules
from workers.config import Settings
from workers.execute import answer
from workers.model import Answer, Instance, Version
from workers.python_backend import Answer as Arrays
from workers.python_backend import PythonModel
from workers.reading import Work
from workers.statistics import Counted, Times


@dataclass(frozen=True, slots=True, eq=False)
class _Turn:
    """A request's turn with an instance, until `over`."""

    over: asyncio.Event = field(default_factory=asyncio.Event)


class DecoupledVersion(Version):
    """A version of a Python model whose `infer` is a generator."""

    def __init__(
        self,
        number: int,
        config: model_config_pb2.ModelConfig,
        settings: Settings,
        instances: Sequence[Instance[PythonModel]],
        queue: int,
        counted: Counted,
    ) -> None:
        super().__init__(number, config, settings, instances, counted)
        rules = Rules(settings.max_batch_size, None, queue)
        self._turns = Batcher[Instance[PythonModel], _Turn, Instance[PythonModel]](
            settings.name, rules, instances, self._hand_over
        )

    async def answers(
        self, request: pb.ModelInferRequest, remaining: float | None, span: SpanContext
    ) -> AsyncGenerator[Answer, None]:
        """Each answer as it comes, then one without a response."""
        began = time.monotonic_ns()
        work = await self._read(request)
        turn = _Turn()
        try:
            instance = await self._turns.submit(turn, work.batch, (), remaining)
            queued = time.monotonic_ns() - began
            ran = self._ran(instance, work.batch, began + queued, [span])
            spent = 0
            generator = _Generator(instance.backend, self.settings, work)
            try:
                while True:
                    asked = time.monotonic_ns()
                    response = await instance.lane.run(generator.next)
                    spent += time.monotonic_ns() - asked
                    ran.computed, ran.ended = spent / 1e9, time.time_ns()
                    if response is None:
                        break
                    yield Answer(response, final=False, batch=work.batch, queued=queued / 1e9, ran=ran)
            finally:
                instance.lane.run(generator.close)
        except BaseException:
            self.statistics.failed(time.monotonic_ns() - began)
            raise
        finally:
            turn.over.set()
        times = Times(0, spent, 0)
        self._executed(work.batch, times)
        self.statistics.succeeded(work.batch, time.monotonic_ns() - began, queued, times)
        yield Answer(None, final=True, batch=work.batch, queued=queued / 1e9, ran=ran)

    async def _hand_over(
        self, instance: Instance[PythonModel], jobs: Sequence[Job[_Turn, Instance[PythonModel]]]
    ) -> Sequence[Instance[PythonModel]]:
        """Give the instance to the one whose turn it is, and wait until it is done with it."""
        for job in jobs:  # there is one: decoupled models are not batched
            if not job.outcome.done():
                job.outcome.set_result(instance)
            await job.work.over.wait()
        return [instance] * len(jobs)

    @property
    def waiting(self) -> int:
        """How many requests are in its queue."""
        return self._turns.waiting

    async def _batcher_close(self) -> None:
        await self._turns.close()


class _Generator:
    """A model's answers, one at a time, all in the instance's thread."""

    def __init__(self, model: PythonModel, settings: Settings, work: Work) -> None:
        self._model = model
        self._settings = settings
        self._work = work
        self._answers: Iterator[Arrays] | None = None

    def next(self) -> pb.ModelInferResponse | None:
        """The next answer, None after the last."""
        if self._answers is None:
            self._answers = self._model.stream(self._work.inputs)
        arrays = next(self._answers, None)
        if arrays is None:
            return None
        return answer(self._settings, arrays, self._work.outputs, self._work.batch)

    def close(self) -> None:
        """Let the model's generator run its `finally`; what that raises concerns nobody any more."""
        close = getattr(self._answers, "close", None)
        if callable(close):
            with suppress(Exception):
                close()
