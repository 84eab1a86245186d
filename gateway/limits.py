"""How much a caller may have of a model. Law: pure functions on frozen values; the time is passed in."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, NamedTuple


class Rate(NamedTuple):
    """So many calls in a second on the average, and so many at once after a while without."""

    per_second: float
    burst: int


class Limits(NamedTuple):
    """What holds for one caller and one model; None is no limit.

    `concurrency`: calls that run at a time; `request`: bytes of a message; `priority`: the best level that its calls
    may have, as Triton counts them: 1 is the highest.
    """

    rate: Rate | None = None
    concurrency: int | None = None
    request: int | None = None
    priority: int = 1

    def largest(self, of_model: int) -> int:
        """Bytes of the largest message, where the model takes at most so many."""
        return of_model if self.request is None else min(of_model, self.request)


NO_LIMITS: Final = Limits()


def widest(limits: Iterable[Limits]) -> Limits:
    """What a caller has to whom several grants give the same: of each limit the larger; none where one gives none."""
    first, *others = limits
    for other in others:
        first = _wider(first, other)
    return first


def _wider(one: Limits, other: Limits) -> Limits:
    rates = (one.rate, other.rate)
    return Limits(
        None if None in rates else Rate(*map(max, zip(*filter(None, rates), strict=True))),
        _larger(one.concurrency, other.concurrency),
        _larger(one.request, other.request),
        min(one.priority, other.priority),
    )


def _larger(one: int | None, other: int | None) -> int | None:
    return None if one is None or other is None else max(one, other)


class Bucket(NamedTuple):
    """A token bucket: how many calls could come at once at that time, in seconds; a call takes one."""

    tokens: float
    at: float

    def by(self, now: float, rate: Rate) -> Bucket:
        """The same at a later time."""
        more = max(0.0, now - self.at) * rate.per_second
        return Bucket(min(rate.burst, self.tokens + more), now)

    def full_at(self, rate: Rate) -> float:
        """When it will be as if there had been no call."""
        return self.at + (rate.burst - self.tokens) / rate.per_second


def wait(bucket: Bucket, rate: Rate) -> float:
    """Seconds until there is a token; 0 where there is."""
    return max(0.0, (1 - bucket.tokens) / rate.per_second)


LEASE: Final = 1.0  # seconds in which calls must be made that were taken in advance
_SPELL: Final = 0.02  # seconds between leases: calls that come together shall not have all there is
_FIRST: Final = 4  # calls
_SHARE: Final = 4  # of a lease: this part of what comes in its time


def leased(bucket: Bucket, rate: Rate, before: int, since: float) -> int:
    """How many calls to take in advance, for someone who may then make them without asking.

    `before` is how many were taken the last time, `since` seconds ago: who comes again before these have run out of
    time has used them up, and gets twice as many. What is not used is lost, so it is at most a quarter of what the rate
    gives in that time, and half of what there is, for who comes by another way.
    """
    if since < _SPELL:
        return 0
    wanted = 2 * before if before and since < LEASE else _FIRST
    return int(min(wanted, rate.per_second * LEASE / _SHARE, bucket.tokens / 2))
