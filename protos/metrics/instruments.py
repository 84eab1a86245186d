"""Instruments. Law: to count is to note it, on any thread; what it amounts to is worked out later, of many together.

That is when somebody asks, or when so many are noted: between other work each alone would cost several times as much.
No caller can make a label's value: an instrument has at most so many, and what comes after is counted as `_OTHER`.
OpenTelemetry's own instruments were measured at many times the cost of these (docs/decisions/0035).
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from threading import Lock
from typing import Final

from protos.metrics.described import Described, Kind
from protos.metrics.snapshot import ZERO, Distribution, Exemplar, Family, Labels, Snapshot, Value

MOST: Final = 4096
"""Values of labels that an instrument tells apart."""
OTHER: Final = "_OTHER"
_PER_DOUBLING: Final = 8  # 2**SCALE
_TOGETHER: Final = 100  # that are noted

Told = Callable[[], Mapping[Labels, float]]
"""Tells numbers when asked; never blocks, and never raises."""


class Counter:
    """What only grows."""

    def __init__(self, described: Described, lock: Lock) -> None:
        self._described = described
        self._lock = lock
        self._noted: deque[tuple[float, Labels]] = deque()
        self._values: dict[Labels, float] = {}

    def add(self, number: float, *labels: str) -> None:
        """So much more; `labels` are the values of its labels, in their order."""
        self._noted.append((number, _all_of(self._described, labels)))
        if len(self._noted) >= _TOGETHER:
            with self._lock:
                self._work_out()

    def family(self) -> Family:
        """What it amounts to."""
        with self._lock:
            self._work_out()
            return Family(self._described, dict(self._values))

    def _work_out(self) -> None:
        while self._noted:
            number, labels = self._noted.popleft()
            if labels not in self._values:
                labels = _bounded(self._values, labels)
            self._values[labels] = self._values.get(labels, 0) + number


class Histogram:
    """How large each of many was."""

    def __init__(self, described: Described, lock: Lock) -> None:
        self._described = described
        self._lock = lock
        self._noted: deque[tuple[float, int, Exemplar | None, Labels]] = deque()
        self._values: dict[Labels, _Measured] = {}

    def record(self, value: float, *labels: str, number: int = 1, exemplar: Exemplar | None = None) -> None:
        """One more, or so many that were as large; `exemplar` where its trace can be looked at."""
        self._noted.append((value, number, exemplar, _all_of(self._described, labels)))
        if len(self._noted) >= _TOGETHER:
            with self._lock:
                self._work_out()

    def family(self) -> Family:
        """What they amount to."""
        with self._lock:
            self._work_out()
            return Family(self._described, {labels: one.frozen() for labels, one in self._values.items()})

    def _work_out(self) -> None:
        while self._noted:
            value, number, exemplar, labels = self._noted.popleft()
            measured = self._values.get(labels)
            if measured is None:
                labels = _bounded(self._values, labels)
                measured = self._values.setdefault(labels, _Measured(self._described.bounds))
            measured.add(value, number, exemplar)


class _Measured:
    __slots__ = ("bounds", "counts", "exemplars", "powers", "sum", "zeros")

    def __init__(self, bounds: Sequence[float]) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.sum = 0.0
        self.zeros = 0
        self.powers: dict[int, int] = {}
        self.exemplars: dict[int, Exemplar] = {}

    def add(self, value: float, number: int, exemplar: Exemplar | None) -> None:
        place = bisect_left(self.bounds, value)
        self.counts[place] += number
        self.sum += value * number
        if value <= ZERO:
            self.zeros += number
        else:
            index = math.ceil(math.log2(value) * _PER_DOUBLING)
            self.powers[index] = self.powers.get(index, 0) + number
        if exemplar is not None:
            self.exemplars[place] = exemplar

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


def _all_of(described: Described, labels: Labels) -> Labels:
    if len(labels) != len(described.labels):
        raise TypeError(f"{described.name} has the labels {described.labels}, not {labels}")
    return labels


def _bounded(values: Mapping[Labels, object], labels: Labels) -> Labels:
    return labels if len(values) < MOST else (OTHER,) * len(labels)
