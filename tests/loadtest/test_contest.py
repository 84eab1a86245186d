"""Contenders by turns: their order, what is thrown away, and what a turn is charged with."""

from __future__ import annotations

import os
import subprocess
import sys
import time

import pytest

from loadtest.children import Broken
from loadtest.contest import Case, Effort, measure, sample, turns
from loadtest.ground import Contender
from loadtest.h2load import Run

CASE = Case("small", 291, 16)
ONE, TWO, THREE = (Contender(name, "127.0.0.1:1", [os.getpid()]) for name in ("one", "two", "three"))


class Driver:
    """A thousand calls a second, by its own account."""

    def __init__(self, failed: int = 0) -> None:
        self.turns: list[tuple[str, int]] = []
        self._failed = failed

    def __call__(self, contender: Contender, calls: int) -> Run:
        self.turns.append((contender.name, calls))
        return Run(calls - self._failed, self._failed, calls / 1000, 0.001)


def test_the_order_is_swapped_after_each_round() -> None:
    driver, done = Driver(), []
    measure([ONE, TWO, THREE], {CASE: driver}, Effort(3, 0.016), lambda: done.append(1))
    assert [name for name, _ in driver.turns] == [
        *("one", "one", "two", "two", "three", "three"),  # the warm-up
        *("one", "two", "three"),
        *("three", "two", "one"),
        *("one", "two", "three"),
    ]
    assert len(done) == turns([ONE, TWO, THREE], {CASE: driver}, Effort(3, 0.016)) == 12


def test_the_warm_up_is_thrown_away_and_tells_how_many_calls_are_enough() -> None:
    driver = Driver()
    results = measure([ONE], {CASE: driver}, Effort(2, 2.0), lambda: None)
    assert [calls for _, calls in driver.turns] == [16, 64, 256, 1024, 2000, 2000]
    assert [one.calls for one in results["small", "one"]] == [2000, 2000]


def test_there_is_a_call_for_all_at_once() -> None:
    driver = Driver()
    measure([ONE], {CASE: driver}, Effort(1, 0.001), lambda: None)
    assert driver.turns == [("one", 16), ("one", 64), ("one", 16)]


def test_a_turn_that_is_over_too_soon_goes_on() -> None:
    driver = Driver()
    found = sample(ONE, driver, 300, 1.0)
    assert [calls for _, calls in driver.turns] == [300, 300]
    assert (found.calls, found.seconds) == (600, 0.6)


def test_a_contender_that_refuses_is_not_measured() -> None:
    with pytest.raises(Broken, match="one, small: 3 of the first 16 calls failed"):
        measure([ONE], {CASE: Driver(failed=3)}, Effort(1, 1.0), lambda: None)


def test_failures_on_the_way_are_counted() -> None:
    assert sample(ONE, Driver(failed=2), 10).failed == 2


def test_what_is_behind_is_told_from_the_front() -> None:
    """This process works, in front; the one behind idles."""

    def drive(_: Contender, calls: int) -> Run:
        until = time.process_time() + 0.1
        while time.process_time() < until:
            pass
        return Run(calls, 0, 1.0, 0.1)

    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as idle:
        found = sample(Contender("two", "127.0.0.1:1", [os.getpid()], [idle.pid]), drive, 10)
        other = sample(Contender("two", "127.0.0.1:1", [idle.pid], [os.getpid()]), drive, 10)
        assert idle.stdin is not None
        idle.stdin.close()
    assert found.front > 0.05
    assert found.cpu >= found.front
    assert other.front < 0.05 < other.cpu


def test_a_contender_that_has_ended_is_told() -> None:
    with subprocess.Popen([sys.executable, "-c", ""]) as gone:
        pass
    with pytest.raises(Broken, match="one has ended"):
        sample(Contender("one", "127.0.0.1:1", [gone.pid]), Driver(), 1)
