"""What was measured and what it says. Law: pure functions on frozen values.

Rates drift with a machine's mood, so two subjects are compared within each round, and the rounds' ratios are told by
their median and their range.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

BUSY = 0.9  # share of its processor that a subject must use for its rate to be its own


@dataclass(frozen=True, slots=True)
class Sample:
    """One subject under load in one round.

    `calls` were answered and `failed` were not, within `seconds` of wall clock, for `cpu` seconds of processor time, of
    which `front` were spent where callers come in; `p50` (seconds) is the median latency.
    """

    calls: int
    failed: int
    seconds: float
    cpu: float
    p50: float
    front: float

    @property
    def rate(self) -> float:
        """Calls a second."""
        return self.calls / self.seconds

    @property
    def cpu_per_call(self) -> float:
        """Seconds of processor time; infinite where no call was answered."""
        return self.cpu / self.calls if self.calls else float("inf")

    @property
    def front_per_call(self) -> float:
        """The same, where callers come in."""
        return self.front / self.calls if self.calls else float("inf")

    @property
    def busy(self) -> float:
        """Share of one processor."""
        return self.cpu / self.seconds


@dataclass(frozen=True, slots=True)
class Summary:
    """A subject over all rounds: sums of counts, medians of the rest; `spread` is the rates' range by their median."""

    calls: int
    failed: int
    rate: float
    spread: float
    cpu_per_call: float
    front_per_call: float
    p50: float
    busy: float


@dataclass(frozen=True, slots=True)
class Ratio:
    """The baseline is 1: the median of the rounds' ratios, the lowest and the highest."""

    median: float
    low: float
    high: float


def summary(samples: Sequence[Sample]) -> Summary:
    """One subject's rounds together. ValueError for none."""
    rates = [sample.rate for sample in samples]
    rate = _median(rates)
    return Summary(
        calls=sum(sample.calls for sample in samples),
        failed=sum(sample.failed for sample in samples),
        rate=rate,
        spread=(max(rates) - min(rates)) / rate if rate else float("inf"),
        cpu_per_call=_median([sample.cpu_per_call for sample in samples]),
        front_per_call=_median([sample.front_per_call for sample in samples]),
        p50=_median([sample.p50 for sample in samples]),
        busy=_median([sample.busy for sample in samples]),
    )


def rate_ratio(subject: Sequence[Sample], baseline: Sequence[Sample]) -> Ratio | None:
    """Calls a second, subject's over baseline's; None where one of them answered nothing in some round."""
    return _ratio([sample.rate for sample in subject], [sample.rate for sample in baseline])


def own_rate_ratio(subject: Sequence[Sample], baseline: Sequence[Sample]) -> Ratio | None:
    """The same, of those rounds in which both used up their processor; None where these are not most.

    In others, a rate is the caller's, the worker's or a neighbour's.
    """
    pairs = [pair for pair in zip(subject, baseline, strict=True) if all(one.busy >= BUSY for one in pair)]
    if 2 * len(pairs) <= len(subject):
        return None
    return rate_ratio([mine for mine, _ in pairs], [its for _, its in pairs])


def cpu_ratio(subject: Sequence[Sample], baseline: Sequence[Sample]) -> Ratio | None:
    """Calls for the same processor time. Equal to the ratio of rates, but for what other processes take meanwhile."""
    return _price([sample.cpu_per_call for sample in subject], [sample.cpu_per_call for sample in baseline])


def front_ratio(subject: Sequence[Sample], baseline: Sequence[Sample]) -> Ratio | None:
    """Calls for the same processor time where callers come in."""
    return _price([sample.front_per_call for sample in subject], [sample.front_per_call for sample in baseline])


def _price(subject: Sequence[float], baseline: Sequence[float]) -> Ratio | None:
    """What costs less is more; None where a clock has not ticked."""
    return _ratio([1 / mine if mine else 0.0 for mine in subject], [1 / its if its else 0.0 for its in baseline])


def _ratio(subject: Sequence[float], baseline: Sequence[float]) -> Ratio | None:
    if not all((*subject, *baseline)):
        return None
    ratios = [mine / its for mine, its in zip(subject, baseline, strict=True)]
    return Ratio(median(ratios), min(ratios), max(ratios))


def _median(values: Sequence[float]) -> float:
    if not values:
        raise ValueError("nothing was measured")
    return median(values)
