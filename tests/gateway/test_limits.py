"""What holds of several grants, and how a bucket fills."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.limits import LEASE, NO_LIMITS, Bucket, Limits, Rate, leased, wait, widest

SLOW, FAST = Rate(1.0, 10), Rate(5.0, 2)


@pytest.mark.parametrize(
    ("limits", "expected"),
    [
        ([Limits(SLOW, 5, 100, 2)], Limits(SLOW, 5, 100, 2)),
        ([Limits(SLOW, 5, 100, 2), Limits(FAST, 9, 50, 3)], Limits(Rate(5.0, 10), 9, 100, 2)),
        ([Limits(SLOW, 5, 100, 2), NO_LIMITS], NO_LIMITS),
        ([Limits(concurrency=5, priority=2), Limits(rate=SLOW, priority=3)], Limits(priority=2)),
    ],
)
def test_of_several_grants_the_largest_holds(limits: list[Limits], expected: Limits) -> None:
    assert widest(limits) == expected
    assert widest(reversed(limits)) == expected


def test_the_smaller_of_two_sizes_holds() -> None:
    assert NO_LIMITS.largest(7) == 7
    assert Limits(request=5).largest(7) == 5
    assert Limits(request=9).largest(7) == 7


def test_a_bucket_fills_by_its_rate_up_to_its_burst() -> None:
    empty = Bucket(0.0, 100.0)
    assert empty.by(102.0, SLOW).tokens == 2.0
    assert empty.by(200.0, SLOW).tokens == 10
    assert empty.by(99.0, SLOW).tokens == 0.0  # another process has looked later
    assert Bucket(4.0, 100.0).full_at(SLOW) == 106.0


def test_how_long_until_a_call_goes() -> None:
    assert wait(Bucket(1.0, 0.0), SLOW) == 0
    assert wait(Bucket(0.25, 0.0), SLOW) == 0.75
    assert wait(Bucket(0.0, 0.0), FAST) == 0.2


FULL = Bucket(1000.0, 0.0)
MANY = Rate(1000.0, 1000)


def test_who_uses_calls_up_that_were_taken_in_advance_gets_twice_as_many() -> None:
    assert leased(FULL, MANY, 0, 1e9) == 4
    assert leased(FULL, MANY, 4, LEASE / 2) == 8
    assert leased(FULL, MANY, 4, LEASE) == 4  # they have run out
    assert leased(FULL, MANY, 200, LEASE / 2) == 250  # a quarter of what comes meanwhile
    assert leased(FULL._replace(tokens=20.0), MANY, 200, LEASE / 2) == 10
    assert leased(FULL._replace(tokens=1.0), MANY, 200, LEASE / 2) == 0
    assert leased(FULL, MANY, 8, 0.01) == 0  # calls that come together


@settings(max_examples=200)
@given(
    st.lists(st.tuples(st.floats(0, 0.5), st.integers(0, 20)), max_size=40),
    st.floats(0.1, 1000),
    st.integers(1, 100),
)
def test_no_more_goes_than_the_rate_and_the_burst(steps: list[tuple[float, int]], each: float, burst: int) -> None:
    rate, bucket, before, at = Rate(each, burst), Bucket(burst, 0.0), 0, -1e9
    gone, now = 0, 0.0
    for later, calls in steps:
        now += later
        bucket = bucket.by(now, rate)
        for _ in range(calls):
            if not wait(bucket, rate):
                bucket, gone = bucket._replace(tokens=bucket.tokens - 1), gone + 1
        if lease := leased(bucket, rate, before, now - at):
            bucket, before, at, gone = bucket._replace(tokens=bucket.tokens - lease), lease, now, gone + lease
    assert gone <= burst + each * now + 1e-6
