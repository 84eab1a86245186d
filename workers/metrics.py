"""What a worker counts of itself. Law: what is measured for statistics and spans is counted here, not measured again.

Labels are names of models that the repository has, and numbers of their versions; nothing that a caller wrote.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Final

from opentelemetry.trace import SpanContext

from protos import tracing
from protos.dropped import Signal
from protos.metrics import process
from protos.metrics.described import LATENCY, SIZES, Described, Kind
from protos.metrics.instruments import Registry
from protos.metrics.shared import DROPPED, DURATION, of_dropped
from protos.metrics.snapshot import Exemplar, Labels, Snapshot
from workers.gpu import Gpu
from workers.models import Models
from workers.statistics import Counted

_OF_VERSION: Final = (tracing.MODEL, tracing.VERSION_SERVED)
_OF_GPU: Final = (tracing.HW_ID, tracing.HW_NAME)
_SIGNALS: Final = (Signal.SPANS, Signal.SPANS_OVER_LIMIT, Signal.METRICS, Signal.LOGS)
QUEUE_DURATION: Final = Described(
    "headrace.queue.duration",
    Kind.HISTOGRAM,
    "s",
    "How long requests that were answered had waited for the model.",
    _OF_VERSION,
    LATENCY,
)
COMPUTE_DURATION: Final = Described(
    "headrace.compute.duration",
    Kind.HISTOGRAM,
    "s",
    "How long the model had requests that were answered: inputs put together, inference, outputs taken apart.",
    _OF_VERSION,
    LATENCY,
)
BATCH_SIZE: Final = Described(
    "headrace.batch.size", Kind.HISTOGRAM, "{inference}", "How much the model ran on at once.", _OF_VERSION, SIZES
)
QUEUE_DEPTH: Final = Described(
    "headrace.queue.depth", Kind.GAUGE, "{request}", "Requests that wait for the model.", _OF_VERSION
)
MODEL_READY: Final = Described(
    "headrace.model.ready",
    Kind.GAUGE,
    "{version}",
    "1 where the version serves, 0 where it ought to and does not; none of what was unloaded.",
    _OF_VERSION,
)
GPU_UTILIZATION: Final = Described(
    "hw.gpu.utilization", Kind.GAUGE, "1", "Share of the last moments in which the GPU was at work.", _OF_GPU
)
GPU_MEMORY_USAGE: Final = Described("hw.gpu.memory.usage", Kind.GAUGE, "By", "Memory of the GPU in use.", _OF_GPU)
GPU_MEMORY_LIMIT: Final = Described("hw.gpu.memory.limit", Kind.GAUGE, "By", "Memory that the GPU has.", _OF_GPU)
INSTRUMENTS: Final = (
    *(DURATION, QUEUE_DURATION, COMPUTE_DURATION, BATCH_SIZE, QUEUE_DEPTH, MODEL_READY),
    *(GPU_UTILIZATION, GPU_MEMORY_USAGE, GPU_MEMORY_LIMIT, DROPPED),
    *process.INSTRUMENTS,
)


def executions(registry: Registry) -> Counted:
    """Counts the size of each batch that a model runs."""
    sizes = registry.histogram(BATCH_SIZE)

    def counted(model: str, version: int, batch: int) -> None:
        sizes.record(batch, model, str(version))

    return counted


class Metrics:
    """What becomes of calls, and what is so now.

    `live`: whether the worker still takes calls; `gpus`: those that there are.
    """

    def __init__(
        self, registry: Registry, models: Models, live: Callable[[], bool], gpus: Callable[[], Sequence[Gpu]]
    ) -> None:
        self._registry = registry
        self._models = models
        self._live = live
        self._gpus = gpus
        self._calls = registry.histogram(DURATION)
        self._queue = registry.histogram(QUEUE_DURATION)
        self._compute = registry.histogram(COMPUTE_DURATION)
        registry.asked(QUEUE_DEPTH, self._depth)
        registry.asked(MODEL_READY, self._ready)
        registry.asked(GPU_UTILIZATION, lambda: self._of_gpus(lambda gpu: gpu.utilization))
        registry.asked(GPU_MEMORY_USAGE, lambda: self._of_gpus(lambda gpu: gpu.memory_usage))
        registry.asked(GPU_MEMORY_LIMIT, lambda: self._of_gpus(lambda gpu: gpu.memory_limit))
        of_dropped(registry, _SIGNALS)
        process.of_itself(registry)

    def inferred(self, model: str, version: str, queued: float, compute: float, span: SpanContext) -> None:
        """A request is answered, after so many seconds in the queue and so many with the model."""
        trace = _trace(span)
        self._queue.record(queued, model, version, exemplar=_exemplar(trace, queued))
        self._compute.record(compute, model, version, exemplar=_exemplar(trace, compute))

    def ended(self, method: str, model: str, version: str, status: str, duration: float, span: SpanContext) -> None:
        """A call is over, after so many seconds. Its model is as the caller wrote it."""
        known = model if version or self._models.knows(model) else ""
        exemplar = _exemplar(_trace(span), duration)
        self._calls.record(duration, method, known, version, "", status, exemplar=exemplar)

    def snapshot(self) -> Snapshot:
        """All of it. Any thread may ask."""
        return self._registry.snapshot()

    def _depth(self) -> Mapping[Labels, float]:
        return {(one.name, str(one.number)): float(one.waiting) for one in self._models.serving()}

    def _ready(self) -> Mapping[Labels, float]:
        live = self._live()
        return {
            (name, str(number) if number else ""): float(live and serves)
            for name, number, serves in self._models.wanted()
        }

    def _of_gpus(self, told: Callable[[Gpu], float | None]) -> Mapping[Labels, float]:
        return {(gpu.id, gpu.name): value for gpu in self._gpus() if (value := told(gpu)) is not None}


def _trace(context: SpanContext) -> str:
    """The id of the call's trace where that is kept."""
    return format(context.trace_id, "032x") if context.trace_flags.sampled else ""


def _exemplar(trace: str, value: float) -> Exemplar | None:
    return Exemplar(trace, value, time.time()) if trace else None
