"""What a served version has done. Law: counters with Triton's meaning, touched on the event loop only.

All times are nanoseconds. `success` and `fail` count requests, from their arrival to their answer; `inference_count`
counts what was inferred (a batch of 4 is 4), `execution_count` how often the model ran for it, so that their ratio is
the mean batch size. `fail` counts refusals by the queue, too, as Triton does; not requests that were malformed.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from protos import grpc_service_pb2 as pb


@dataclass(frozen=True, slots=True)
class Times:
    """How long one execution took: to put the inputs together, to infer, to take the outputs apart."""

    input: int
    infer: int
    output: int


Counted = Callable[[str, int, int], None]
"""Is told of each execution: the model, its version, and how large the batch was."""


@dataclass(slots=True)
class _Sum:
    count: int = 0
    ns: int = 0

    def add(self, ns: int) -> None:
        self.count += 1
        self.ns += ns

    def message(self) -> pb.StatisticDuration:
        return pb.StatisticDuration(count=self.count, ns=self.ns)


@dataclass(slots=True)
class _Compute:
    input: _Sum = field(default_factory=_Sum)
    infer: _Sum = field(default_factory=_Sum)
    output: _Sum = field(default_factory=_Sum)

    def add(self, times: Times) -> None:
        self.input.add(times.input)
        self.infer.add(times.infer)
        self.output.add(times.output)


class Statistics:
    """The counters of one served version. `now` is the wall clock in nanoseconds since the epoch."""

    def __init__(self, now: Callable[[], int]) -> None:
        self._now = now
        self._last = 0
        self._inferences = 0
        self._executions = 0
        self._success = _Sum()
        self._fail = _Sum()
        self._queue = _Sum()
        self._compute = _Compute()
        self._batches: dict[int, _Compute] = {}

    def succeeded(self, batch: int, total: int, queued: int, times: Times) -> None:
        """One request was answered: its own batch size, its whole time, its time in the queue, its execution's."""
        self._inferences += batch
        self._success.add(total)
        self._queue.add(queued)
        self._compute.add(times)

    def failed(self, total: int) -> None:
        """One request was not answered, after so long."""
        self._fail.add(total)

    def executed(self, batch: int, times: Times) -> None:
        """The model ran once, for a batch of this size."""
        self._last = self._now() // 1_000_000  # milliseconds, by the protocol
        self._executions += 1
        self._batches.setdefault(batch, _Compute()).add(times)

    def message(self, model: str, version: int) -> pb.ModelStatistics:
        """The counters as the protocol has them."""
        return pb.ModelStatistics(
            name=model,
            version=str(version),
            last_inference=self._last,
            inference_count=self._inferences,
            execution_count=self._executions,
            inference_stats=pb.InferStatistics(
                success=self._success.message(),
                fail=self._fail.message(),
                queue=self._queue.message(),
                compute_input=self._compute.input.message(),
                compute_infer=self._compute.infer.message(),
                compute_output=self._compute.output.message(),
            ),
            batch_stats=[
                pb.InferBatchStatistics(
                    batch_size=size,
                    compute_input=sums.input.message(),
                    compute_infer=sums.infer.message(),
                    compute_output=sums.output.message(),
                )
                for size, sums in sorted(self._batches.items())
            ],
        )
