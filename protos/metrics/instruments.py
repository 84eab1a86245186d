"""Instruments. Law: to count costs about a microsecond, on any thread; what it amounts to is worked out when asked for.

No caller can make a label's value: an instrument has at most so many, and what comes after is counted as `_OTHER`.
OpenTelemetry's own instruments were measured at several times the cost of these (docs/decisions/0035).
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Callable, Mapping
from threading import Lock
from typing import Final

from protos.metrics.described import Described, Kind
from protos.metrics.snapshot import ZERO, Distribution, Exemplar, Family, Labels, Snapshot, Value

MOST: Final = 4096
"""Values of labels that an instrument tells apart."""
OTHER: Final = "_OTHER"
_PER_DOUBLING: Final = 8  # 2**SCALE

Told = Callable[[], Mapping[Labels, float]]
"""Tells numbers when asked; never blocks, and never raises."""


class Counter:
    """What only grows."""

    def __init__(self, described: Described, lock: Lock) -> None:
        self._described = described
        self._lock = lock
        self._values: dict[Labels, float] = {}

    def add(self, number: float, *labels: str) -> None:
        """So much more; `labels` are the values of its labels, in their order."""
        with self._lock:
            if labels not in self._values:
                labels = _bounded(self._described, self._values, labels)
            self._values[labels] = self._values.get(labels, 0) + number

    def family(self) -> Family:
        """What it amounts to."""
        with self._lock:
            return Family(self._described, dict(self._values))


class Histogram:
    """How large each of many was."""

    def __init__(self, described: Described, lock: Lock) -> None:
        self._described = described
        self._lock = lock
        self._values: dict[Labels, _Measured] = {}

    def record(self, value: float, *labels: str, number: int = 1, exemplar: Exemplar | None = None) -> None:
        """One more, or so many that were as large; `exemplar` where its trace can be looked at."""
        with self._lock:
            measured = self._values.get(labels)
            if measured is None:
                labels = _bounded(self._described, self._values, labels)
                measured = self._values.setdefault(labels, _Measured(len(self._described.bounds) + 1))
            place = bisect_left(self._described.bounds, value)
            measured.counts[place] += number
            measured.sum += value * number
            if value <= ZERO:
                measured.zeros += number
            else:
                index = math.ceil(math.log2(value) * _PER_DOUBLING)
                measured.powers[index] = measured.powers.get(index, 0) + number
            if exemplar is not None:
                measured.exemplars[place] = exemplar

    def family(self) -> Family:
        """What they amount to."""
        with self._lock:
            return Family(self._described, {labels: one.frozen() for labels, one in self._values.items()})


class _Measured:
    __slots__ = ("counts", "exemplars", "powers", "sum", "zeros")

    def __init__(self, buckets: int) -> None:
        self.counts = [0] * buckets
        self.sum = 0.0
        self.zeros = 0
        self.powers: dict[int, int] = {}
        self.exemplars: dict[int, Exemplar] = {}

    def frozen(self) -> Distribution:
        return Distribution(tuple(self.counts), self.sum, self.zeros, dict(self.powers), dict(self.exemplars))


class Registry:
    """The instruments of one process; `now` is the time in seconds since the epoch."""

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self._since = now()
        self._lock = Lock()
        self._families: list[Callable[[], Family]] = []

    def counter(self, described: Described) -> Counter:
        """A counter that is counted up."""
        made = Counter(_of(described, Kind.COUNTER), self._lock)
        self._families.append(made.family)
        return made

    def histogram(self, described: Described) -> Histogram:
        """A histogram."""
        made = Histogram(_of(described, Kind.HISTOGRAM), self._lock)
        self._families.append(made.family)
        return made

    def asked(self, described: Described, told: Told) -> None:
        """A gauge, or a counter, whose numbers someone else keeps, who tells them when asked."""
        if described.kind is Kind.HISTOGRAM:
            raise TypeError(f"{described.name} is a histogram")

        def family() -> Family:
            points: dict[Labels, Value] = {labels: float(number) for labels, number in told().items()}
            return Family(described, points)

        self._families.append(family)

    def snapshot(self) -> Snapshot:
        """All numbers now."""
        return Snapshot(self._since, self._now(), tuple(family() for family in self._families))


def _of(described: Described, kind: Kind) -> Described:
    if described.kind is not kind:
        raise TypeError(f"{described.name} is a {described.kind.value}, not a {kind.value}")
    return described


def _bounded(described: Described, values: Mapping[Labels, object], labels: Labels) -> Labels:
    if len(labels) != len(described.labels):
        raise TypeError(f"{described.name} has the labels {described.labels}, not {labels}")
    return labels if len(values) < MOST else (OTHER,) * len(labels)
