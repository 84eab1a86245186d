"""What came of calls. Law: a share is judged by what chance allows, not by a tolerance of someone's choice."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import grpc

from mesh.testing.worker import Worker

CONFIDENCE = 0.999


@dataclass(frozen=True)
class Call:
    """One call: its status, its words, the worker that answered (None: nobody's answer came back), its seconds."""

    status: grpc.StatusCode
    details: str
    worker: Worker | None
    seconds: float


@dataclass(frozen=True)
class Calls:
    """Calls, in the order in which they were begun where it was said how many."""

    all: Sequence[Call]

    def __len__(self) -> int:
        return len(self.all)

    @property
    def statuses(self) -> Counter[grpc.StatusCode]:
        """How often each status came back."""
        return Counter(call.status for call in self.all)

    @property
    def workers(self) -> Counter[str]:
        """How many calls each worker answered."""
        return Counter(call.worker.name for call in self.all if call.worker is not None)

    def answered_by(self, **labels: str) -> int:
        """How many calls were answered by workers with these labels."""
        return sum(call.worker is not None and labels.items() <= call.worker.labels.items() for call in self.all)

    def assert_ok(self) -> None:
        """Every call succeeded, and there was one."""
        self._assert_any()
        if set(self.statuses) - {grpc.StatusCode.OK}:
            raise AssertionError(f"not every call succeeded: {self._failures()}")

    def assert_share(self, share: float, **labels: str) -> None:
        """Workers with these labels answered this share of the calls, as far as chance allows (99.9 %)."""
        self._assert_any()
        low, high = interval(len(self), share)
        found = self.answered_by(**labels)
        if not low <= found <= high:
            raise AssertionError(
                f"{labels} answered {found} of {len(self)} calls; for a share of {share:.1%} "
                f"{low} to {high} would be chance ({CONFIDENCE:.1%}). Workers: {dict(self.workers)}"
            )

    def _assert_any(self) -> None:
        if not self.all:
            raise AssertionError("there was no call")

    def _failures(self) -> str:
        first = next(call for call in self.all if call.status is not grpc.StatusCode.OK)
        counts = {status.name: count for status, count in self.statuses.items()}
        return f"{counts}, the first with {first.details!r}"


def interval(calls: int, share: float, confidence: float = CONFIDENCE) -> tuple[int, int]:
    """The counts between which a binomial variable falls with at least this probability, both tails alike."""
    tail = (1 - confidence) / 2
    probabilities = [_probability(calls, share, count) for count in range(calls + 1)]
    return _quantile(probabilities, tail), calls - _quantile(probabilities[::-1], tail)


def _quantile(probabilities: Sequence[float], tail: float) -> int:
    """The first count at which the sum of the probabilities up to it is over `tail`."""
    total = 0.0
    for count, probability in enumerate(probabilities):
        total += probability
        if total > tail:
            return count
    return len(probabilities) - 1


def _probability(calls: int, share: float, count: int) -> float:
    if share in (0.0, 1.0):
        return float(count == calls * share)
    ways = math.lgamma(calls + 1) - math.lgamma(count + 1) - math.lgamma(calls - count + 1)
    return math.exp(ways + count * math.log(share) + (calls - count) * math.log1p(-share))
