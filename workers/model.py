"""One served version of a model. Law: whoever holds a version may finish with it; it ends when the last has let go.

Reading large requests, inference and writing answers happen in threads, never on the event loop.
"""

from __future__ import annotations

import asyncio
import time
from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final, Generic, NamedTuple, TypeVar

from opentelemetry.trace import SpanContext

from protos import grpc_service_pb2 as pb
from protos import model_config_pb2
from workers.batcher import Batcher, Job, Rules
from workers.config import Settings
from workers.errors import malformed
from workers.execute import Backend, Execution, execute
from workers.lane import Lane
from workers.reading import Work, read_request
from workers.spans import Ran
from workers.statistics import Counted, Statistics, Times
from workers.tensors import Array

B_co = TypeVar("B_co", bound=Backend, covariant=True)
LARGE: Final = 1 << 16  # bytes of a message above which it is read in a thread


@dataclass(frozen=True, slots=True)
class Instance(Generic[B_co]):
    """One copy of a model, with its thread."""

    backend: B_co
    lane: Lane


class Answer(NamedTuple):
    """One answer to a request. `response` is None for the end of a decoupled model's answers; `queued` in seconds.

    `ran`: the execution that it is of.
    """

    response: pb.ModelInferResponse | None
    final: bool
    batch: int
    queued: float
    ran: Ran


class Asked(NamedTuple):
    """What waits in the queue: the work, and the span of the call that asks for it."""

    work: Work
    span: SpanContext


class Done(NamedTuple):
    """What one job of a batch gets. `queued` in nanoseconds, `kept` are the outputs that stay here.

    `ran` is the whole batch's.
    """

    response: pb.ModelInferResponse
    queued: int
    times: Times
    kept: Mapping[str, Array]
    ran: Ran


class Version(ABC):
    """What every served version has. `config` is complete, and never changed."""

    def __init__(
        self,
        number: int,
        config: model_config_pb2.ModelConfig,
        settings: Settings,
        instances: Sequence[Instance[Backend]],
        counted: Counted,
    ) -> None:
        self.name = settings.name
        self.number = number
        self.config = config
        self.settings = settings
        self.statistics = Statistics(time.time_ns)
        self._instances = instances
        self._counted = counted
        self.provider = instances[0].backend.provider
        self._holders = 0
        self._let_go = asyncio.Event()
        self._let_go.set()

    @contextmanager
    def held(self) -> Iterator[None]:
        """Keep the version until the block ends."""
        self._holders += 1
        self._let_go.clear()
        try:
            yield
        finally:
            self._holders -= 1
            if not self._holders:
                self._let_go.set()

    async def retire(self) -> None:
        """End the version once nobody holds it."""
        await self._let_go.wait()
        await self.close()

    async def close(self) -> None:
        """End the version now; its threads end when what they do is done."""
        await self._batcher_close()
        for instance in self._instances:
            instance.lane.close(instance.backend.close)

    def busy(self) -> float:
        """Seconds that the longest of the executions now running has taken so far; 0 where none runs."""
        return max(instance.lane.busy() for instance in self._instances)

    @abstractmethod
    def answers(
        self, request: pb.ModelInferRequest, remaining: float | None, span: SpanContext
    ) -> AsyncGenerator[Answer, None]:
        """The answers to a request, of which `remaining` seconds are left. Raises HeadraceError, or anything.

        `span` is the call's.
        """

    @property
    @abstractmethod
    def waiting(self) -> int:
        """How many requests are in its queue. Any thread may ask."""

    @abstractmethod
    async def _batcher_close(self) -> None: ...

    def _executed(self, batch: int, times: Times) -> None:
        """The model ran once, for a batch of this size."""
        self.statistics.executed(batch, times)
        self._counted(self.name, self.number, batch)

    def _ran(self, instance: Instance[Backend], batch: int, began: int, calls: Sequence[SpanContext]) -> Ran:
        """An execution that began at `began` (monotonic ns)."""
        since = time.time_ns() - (time.monotonic_ns() - began)
        return Ran(self.name, self.number, instance.backend.provider, batch, since, 0.0, since, calls)

    def _within(self, request: pb.ModelInferRequest, remaining: float | None) -> float | None:
        """The seconds within which the work must begin: the caller's and the queue's, whichever are fewer."""
        limits = [] if remaining is None else [remaining]
        batching = self.settings.batching
        if batching and batching.timeout:
            limits.append(batching.timeout)
        if batching and batching.timeout_override and "timeout" in request.parameters:
            asked = request.parameters["timeout"]
            micros = asked.int64_param or asked.uint64_param
            if micros < 0:
                raise malformed("the parameter timeout must not be negative")
            limits += [micros / 1e6] if micros else []
        return min(limits, default=None)

    async def _read(self, request: pb.ModelInferRequest) -> Work:
        def read() -> Work:
            return self._instances[0].backend.admit(read_request(request, self.settings))

        return read() if request.ByteSize() < LARGE else await asyncio.to_thread(read)


class BatchedVersion(Version):
    """A version that gives one answer to each request; at most `queue` wait where its configuration sets no bound."""

    def __init__(
        self,
        number: int,
        config: model_config_pb2.ModelConfig,
        settings: Settings,
        instances: Sequence[Instance[Backend]],
        queue: int,
        counted: Counted,
    ) -> None:
        super().__init__(number, config, settings, instances, counted)
        batching = settings.batching
        rules = Rules(settings.max_batch_size, batching, (batching.queue if batching else 0) or queue)
        self._batcher = Batcher[Instance[Backend], Asked, Done](settings.name, rules, instances, self._run)

    async def answers(
        self, request: pb.ModelInferRequest, remaining: float | None, span: SpanContext
    ) -> AsyncGenerator[Answer, None]:
        """The one answer."""
        began = time.monotonic_ns()
        work = await self._read(request)
        done = await self._done(Asked(work, span), self._within(request, remaining), began)
        yield Answer(done.response, final=True, batch=done.ran.batch, queued=done.queued / 1e9, ran=done.ran)

    async def _done(self, asked: Asked, within: float | None, began: int) -> Done:
        """What comes of work that must begin within so many seconds; its request came at `began` (monotonic ns)."""
        work = asked.work
        try:
            done = await self._batcher.submit(asked, work.batch, work.signature, within)
        except BaseException:
            self.statistics.failed(time.monotonic_ns() - began)
            raise
        self.statistics.succeeded(work.batch, time.monotonic_ns() - began, done.queued, done.times)
        return done

    async def _run(self, instance: Instance[Backend], jobs: Sequence[Job[Asked, Done]]) -> Sequence[Done]:
        works = [job.work.work for job in jobs]
        done: Execution = await instance.lane.run(execute, instance.backend, self.settings, works)
        batch = sum(job.batch for job in jobs)
        self._executed(batch, done.times)
        took = done.times.input + done.times.infer + done.times.output
        ran = self._ran(instance, batch, done.began, [job.work.span for job in jobs])
        ran.computed, ran.ended = took / 1e9, ran.began + took
        return [
            Done(response, max(done.began - int(job.queued * 1e9), 0), done.times, done.kept, ran)
            for job, response in zip(jobs, done.answers, strict=True)
        ]

    @property
    def waiting(self) -> int:
        """How many requests are in its queue."""
        return self._batcher.waiting

    async def _batcher_close(self) -> None:
        await self._batcher.close()
