"""All numbers at one moment. Law: frozen values; several processes' are one by adding up, whoever told them.

A histogram is kept in two forms: by the bounds that its instrument has, and by powers of 2**(1/8) (Prometheus's native
histograms of schema 3; OpenTelemetry's exponential ones of scale 3).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from protos.metrics.described import Described, Kind

SCALE: Final = 3
"""A bucket with the index i holds what is over 2**((i - 1) / 8) and at most 2**(i / 8)."""
ZERO: Final = 1e-6
"""What is no larger is in the bucket of nothing."""

Labels = tuple[str, ...]
"""The values of an instrument's labels, in their order."""


@dataclass(frozen=True, slots=True)
class Exemplar:
    """One of the measured: its trace, how large it was, and when (seconds since the epoch)."""

    trace_id: str
    value: float
    at: float


@dataclass(frozen=True, slots=True)
class Distribution:
    """How large many were.

    `counts`: of each bucket, not summed up; one more than there are bounds. `powers`: of each bucket of a native
    histogram that has any, by index; `exemplars`: the latest of each bucket in `counts` that has one, by its place.
    """

    counts: tuple[int, ...]
    sum: float
    zeros: int = 0
    powers: Mapping[int, int] = field(default_factory=dict)
    exemplars: Mapping[int, Exemplar] = field(default_factory=dict)

    @property
    def count(self) -> int:
        """How many."""
        return sum(self.counts)


Value = float | Distribution


@dataclass(frozen=True, slots=True)
class Family:
    """One instrument's numbers, by the values of its labels."""

    described: Described
    points: Mapping[Labels, Value]


@dataclass(frozen=True, slots=True)
class Snapshot:
    """All numbers; `since` is when counting began, and `at` the moment, in seconds since the epoch."""

    since: float
    at: float
    families: tuple[Family, ...]


def merged(snapshots: Sequence[Snapshot]) -> Snapshot:
    """The sums; of gauges, too: what several processes have, they have together. At least one is given.

    A gauge that is not to be summed up must be told by one alone.
    """
    points: dict[str, dict[Labels, Value]] = {}
    described: dict[str, Described] = {}
    for snapshot in snapshots:
        for family in snapshot.families:
            described.setdefault(family.described.name, family.described)
            into = points.setdefault(family.described.name, {})
            for labels, value in family.points.items():
                into[labels] = added(into[labels], value) if labels in into else value
    families = tuple(Family(described[name], points[name]) for name in described)
    return Snapshot(min(one.since for one in snapshots), max(one.at for one in snapshots), families)


def grown(snapshot: Snapshot) -> Snapshot:
    """What only grows of it, which stays true of a process that has ended."""
    families = (family for family in snapshot.families if family.described.kind is not Kind.GAUGE)
    return Snapshot(snapshot.since, snapshot.at, tuple(families))


def added(one: Value, other: Value) -> Value:
    """Both together."""
    if not isinstance(one, Distribution) or not isinstance(other, Distribution):
        if isinstance(one, Distribution) or isinstance(other, Distribution):
            raise TypeError("a number and a distribution cannot be added")
        return one + other
    latest = dict(one.exemplars)
    for place, exemplar in other.exemplars.items():
        if place not in latest or latest[place].at <= exemplar.at:
            latest[place] = exemplar
    return Distribution(
        tuple(map(sum, zip(one.counts, other.counts, strict=True))),
        one.sum + other.sum,
        one.zeros + other.zeros,
        Counter(one.powers) + Counter(other.powers),
        latest,
    )


def told(families: Iterable[Family], described: Described) -> Mapping[Labels, Value]:
    """The numbers of one instrument; none where it is not there."""
    return next((family.points for family in families if family.described.name == described.name), {})


def histograms(family: Family) -> Mapping[Labels, Distribution]:
    """Those of a histogram."""
    return {labels: value for labels, value in family.points.items() if isinstance(value, Distribution)}


def numbers(family: Family) -> Mapping[Labels, float]:
    """Those of a counter or a gauge."""
    if family.described.kind is Kind.HISTOGRAM:
        return {}
    return {labels: value for labels, value in family.points.items() if not isinstance(value, Distribution)}
