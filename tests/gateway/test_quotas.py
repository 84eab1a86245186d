"""How often a caller may call, and how many of its calls may run: counted alike by all processes."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest

from gateway.authorize import Permit
from gateway.caller import Caller
from gateway.limits import LEASE, Limits, Rate
from gateway.quotas import Quotas
from gateway.rpcs import Action
from protos.errors import HeadraceError, Reason

ALICE, BOB = (Caller("https://id.example/", name, {}, 0.0) for name in ("alice", "bob"))
TEN = Limits(rate=Rate(10.0, 5))


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


CLOCK = Clock()


def permit(
    limits: Limits = TEN, caller: Caller = ALICE, model: str = "digits", action: Action = Action.INFER
) -> Permit:
    return Permit(caller, model, action, limits)


@pytest.fixture
def quotas() -> Iterator[Quotas]:
    made = Quotas(None, 1, 0, CLOCK)
    yield made
    made.close()


def taken(quotas: Quotas, asked: Permit, most: int = 1000) -> int:
    """How many calls go now."""
    for number in range(most):
        try:
            quotas.take(asked)
        except HeadraceError:
            return number
    return most


def test_a_burst_goes_and_then_as_many_as_come(quotas: Quotas) -> None:
    assert taken(quotas, permit()) == 5
    CLOCK.now += 0.35
    assert taken(quotas, permit()) == 3
    CLOCK.now += 100
    assert taken(quotas, permit()) == 5


def test_what_is_too_much_is_told_when_it_would_go(quotas: Quotas) -> None:
    taken(quotas, permit())
    with pytest.raises(HeadraceError) as caught:
        quotas.take(permit())
    error = caught.value
    assert (error.status, error.reason) == (grpc.StatusCode.RESOURCE_EXHAUSTED, Reason.RATE_LIMITED)
    assert error.public == "you may make 10 calls a second of this model"
    assert error.retry_after == pytest.approx(0.1)
    CLOCK.now += error.retry_after - 0.001
    assert taken(quotas, permit()) == 0
    CLOCK.now += 0.002
    assert taken(quotas, permit()) == 1


@pytest.mark.parametrize("other", [{"caller": BOB}, {"model": "other"}, {"action": Action.INSPECT}])
def test_each_caller_and_model_and_action_is_counted_by_itself(quotas: Quotas, other: dict) -> None:
    taken(quotas, permit())
    assert taken(quotas, permit(**other)) == 5


def test_without_a_rate_nothing_is_counted(quotas: Quotas) -> None:
    assert taken(quotas, permit(Limits())) == 1000
    assert quotas.lease(permit(Limits())) is None


def test_what_is_taken_in_advance_is_counted(quotas: Quotas) -> None:
    hundred = permit(Limits(rate=Rate(100.0, 100)))
    assert quotas.lease(hundred) == 4
    assert quotas.lease(hundred) == 0  # at once
    CLOCK.now += LEASE / 2
    assert quotas.lease(hundred) == 8
    assert taken(quotas, hundred) == 92
    CLOCK.now += LEASE
    assert quotas.lease(hundred) == 4  # those have run out of time


def test_another_rate_holds_at_once(quotas: Quotas) -> None:
    taken(quotas, permit())
    CLOCK.now += 1
    assert taken(quotas, permit(Limits(rate=Rate(2.0, 3)))) == 2
    CLOCK.now += 10
    assert taken(quotas, permit(Limits(rate=Rate(1.0, 50)))) == 10


def test_calls_that_run_are_counted_until_they_end(quotas: Quotas) -> None:
    both = permit(TEN._replace(concurrency=2))
    with quotas.held(both, 2):
        with quotas.held(both, 2), pytest.raises(HeadraceError) as caught, quotas.held(both, 2):
            pytest.fail("that is one too many")
        with quotas.held(both, 2):
            pass
        with quotas.held(permit(caller=BOB), 2):
            pass
    error = caught.value
    assert (error.status, error.reason) == (grpc.StatusCode.RESOURCE_EXHAUSTED, Reason.RATE_LIMITED)
    assert error.public == "you may have 2 calls of this model at a time"
    assert error.retry_after is not None


def test_a_call_that_fails_has_ended(quotas: Quotas) -> None:
    for _ in range(3):
        with contextlib.suppress(ValueError), quotas.held(permit(), 1):
            raise ValueError


def test_how_long_calls_take_tells_when_one_would_go(quotas: Quotas) -> None:
    with quotas.held(permit(), 1):
        CLOCK.now += 4
    with (
        quotas.held(permit(), 2),
        quotas.held(permit(), 2),
        pytest.raises(HeadraceError) as caught,
        quotas.held(permit(), 2),
    ):
        pytest.fail("that is one too many")
    assert caught.value.retry_after == pytest.approx(2.0)


def test_how_long_streams_last_and_others_calls_take_tells_nothing(quotas: Quotas) -> None:
    with quotas.held(permit(), 1, tells=False), quotas.held(permit(caller=BOB), 1):
        CLOCK.now += 3600
    with quotas.held(permit(), 1), pytest.raises(HeadraceError) as caught, quotas.held(permit(), 1):
        pytest.fail("that is one too many")
    assert caught.value.retry_after == 0.01


def test_running_calls_and_the_rate_do_not_disturb_each_other(quotas: Quotas) -> None:
    both = permit(TEN._replace(concurrency=2))
    assert taken(quotas, both) == 5
    with quotas.held(both, 2):
        CLOCK.now += 0.25
        assert taken(quotas, both) == 2
    assert taken(quotas, both) == 0


# ---- several processes ----


@pytest.fixture
def two(tmp_path: Path) -> Iterator[tuple[Quotas, Quotas]]:
    pair = Quotas(tmp_path / "quotas", 2, 0, CLOCK), Quotas(tmp_path / "quotas", 2, 1, CLOCK)
    yield pair
    for one in pair:
        one.close()


def test_processes_count_together(two: tuple[Quotas, Quotas]) -> None:
    one, other = two
    assert taken(one, permit(), most=3) == 3
    assert taken(other, permit()) == 2
    assert taken(one, permit()) == 0
    with one.held(permit(), 2), other.held(permit(), 2), pytest.raises(HeadraceError), one.held(permit(), 2):
        pytest.fail("that is one too many")


def test_what_ran_in_a_process_that_died_is_not_counted_for_ever(two: tuple[Quotas, Quotas], tmp_path: Path) -> None:
    one, other = two
    with contextlib.ExitStack() as died:
        for _ in range(2):
            died.enter_context(other.held(permit(), 3))
        with one.held(permit(), 3), pytest.raises(HeadraceError), one.held(permit(), 3):
            pytest.fail("that is one too many")
        again = Quotas(tmp_path / "quotas", 2, 1, CLOCK)
        with one.held(permit(), 3), one.held(permit(), 3), again.held(permit(), 3):
            pass
        again.close()


def test_who_has_been_quiet_gives_room_to_others(quotas: Quotas) -> None:
    many = [Caller("https://id.example/", f"caller {number}", {}, 0.0) for number in range(40_000)]
    slow = permit(Limits(rate=Rate(0.001, 1)))
    quotas.take(slow)
    for caller in many:
        CLOCK.now += 0.001
        quotas.take(permit(caller=caller))
    assert taken(quotas, slow) == 0  # it is not forgotten, since others have been quiet for longer than they need


def test_the_clock_may_have_begun_a_moment_ago() -> None:
    quotas = Quotas(None, 1, 0, lambda: 0.5)
    assert taken(quotas, permit()) == 5
    quotas.close()
