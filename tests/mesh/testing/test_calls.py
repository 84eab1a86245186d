from __future__ import annotations

import math
from fractions import Fraction

import grpc
import pytest

from mesh.testing.calls import Call, Calls, interval
from mesh.testing.worker import Worker

OK, UNAVAILABLE = grpc.StatusCode.OK, grpc.StatusCode.UNAVAILABLE
ONE = Worker("one.models", {"app": "digits", "version": "v1"}, "127.0.0.1")
TWO = Worker("two.models", {"app": "digits", "version": "v2"}, "127.0.0.1")


def calls(*found: tuple[int, Worker | None], status: grpc.StatusCode = OK) -> Calls:
    return Calls([Call(status, "", worker, 0.0) for times, worker in found for _ in range(times)])


def at_most(count: int, of: int, share: Fraction) -> Fraction:
    """The probability of so many or fewer, exactly."""
    return sum(
        (math.comb(of, each) * share**each * (1 - share) ** (of - each) for each in range(count + 1)), Fraction()
    )


@pytest.mark.parametrize("share", [Fraction(1, 10), Fraction(1, 2), Fraction(99, 100), Fraction(1, 3)])
@pytest.mark.parametrize("of", [1, 2, 10, 100, 300])
def test_the_interval_is_the_narrowest_whose_tails_are_both_half_of_what_is_left(of: int, share: Fraction) -> None:
    low, high = interval(of, float(share), 0.999)
    tail = Fraction(5, 10000)
    assert at_most(low - 1, of, share) <= tail < at_most(low, of, share)
    assert at_most(of - high - 1, of, 1 - share) <= tail < at_most(of - high, of, 1 - share)


def test_known_intervals() -> None:
    assert interval(10, 0.5, 0.95) == (2, 8)  # P(X <= 1) = 11 / 1024, and P(X <= 2) = 56 / 1024
    assert interval(100, 0.0) == (0, 0)
    assert interval(100, 1.0) == (100, 100)
    assert interval(0, 0.5) == (0, 0)


def test_many_calls_are_no_trouble() -> None:
    low, high = interval(100_000, 0.1)
    sigma = math.sqrt(100_000 * 0.1 * 0.9)
    assert (10_000 - low) / sigma == pytest.approx(3.29, abs=0.02)
    assert (high - 10_000) / sigma == pytest.approx(3.29, abs=0.02)


def test_calls_are_counted() -> None:
    found = Calls([*calls((3, ONE), (2, TWO)).all, *calls((1, None), status=UNAVAILABLE).all])
    assert len(found) == 6
    assert found.statuses == {OK: 5, UNAVAILABLE: 1}
    assert found.workers == {"one.models": 3, "two.models": 2}
    assert (found.answered_by(version="v1"), found.answered_by(app="digits"), found.answered_by(app="x")) == (3, 5, 0)
    assert found.answered_by(app="digits", version="v2") == 2


def test_what_is_as_asked_says_nothing() -> None:
    found = calls((90, ONE), (10, TWO))
    found.assert_ok()
    found.assert_share(0.1, version="v2")
    found.assert_share(0.9, version="v1")
    found.assert_share(1.0, app="digits")


def test_what_is_not_says_why() -> None:
    with pytest.raises(AssertionError) as share:
        calls((50, ONE), (50, TWO)).assert_share(0.1, version="v2")
    low, high = interval(100, 0.1)
    assert str(share.value) == (
        f"{{'version': 'v2'}} answered 50 of 100 calls; for a share of 10.0% {low} to {high} would be chance (99.9%). "
        "Workers: {'one.models': 50, 'two.models': 50}"
    )
    failed = Call(UNAVAILABLE, "no healthy upstream", None, 0.0)
    with pytest.raises(AssertionError) as status:
        Calls([*calls((2, ONE)).all, failed]).assert_ok()
    assert str(status.value) == (
        "not every call succeeded: {'OK': 2, 'UNAVAILABLE': 1}, the first with 'no healthy upstream'"
    )


def test_no_calls_are_no_proof() -> None:
    with pytest.raises(AssertionError, match="there was no call"):
        calls().assert_ok()
    with pytest.raises(AssertionError, match="there was no call"):
        calls().assert_share(0.5, version="v1")
