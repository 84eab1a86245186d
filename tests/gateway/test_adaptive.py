"""How many calls a model bears: found out on a model of a model server, with a clock of its own."""

from __future__ import annotations

import heapq
import random
from collections import Counter

import pytest

from gateway.adaptive import Adaptive, adapted, fits
from mesh.catalog import Admission

BOUNDS = Admission.model_validate({"floor": 4, "ceiling": 200, "queue": "50ms"})


class Server:
    """So many calls at a time, each of which takes about `takes` seconds; the others wait in line."""

    def __init__(self, at_a_time: int, takes: float) -> None:
        self.free = [0.0] * at_a_time
        self.takes = takes

    def done_at(self, now: float) -> float:
        begins = max(now, heapq.heappop(self.free))
        done = begins + self.takes * random.uniform(0.8, 1.2)
        heapq.heappush(self.free, done)
        return done


class Load:
    """Callers that call at random, each so often in a second, at a level; what became of it."""

    def __init__(self, adaptive: Adaptive, server: Server) -> None:
        self.adaptive = adaptive
        self.server = server
        self.now = 0.0
        self.answered: Counter[str] = Counter()
        self.refused: Counter[str] = Counter()
        self.took: list[float] = []
        self._ends: list[tuple[float, float, str, bool]] = []

    def run(self, seconds: float, callers: dict[str, tuple[float, int]]) -> None:
        for found in (self.answered, self.refused):
            found.clear()
        self.took.clear()
        until, total = self.now + seconds, sum(rate for rate, _ in callers.values())
        names = list(callers)
        while self.now < until:
            self.now += random.expovariate(total)
            self._end()
            (name,) = random.choices(names, [callers[name][0] for name in names])
            if not self.adaptive.admits(name, callers[name][1]):
                self.refused[name] += 1
                continue
            alone = self.adaptive.began(name)
            heapq.heappush(self._ends, (self.server.done_at(self.now), self.now, name, alone))

    def _end(self) -> None:
        while self._ends and self._ends[0][0] <= self.now:
            at, began, name, alone = heapq.heappop(self._ends)
            self.adaptive.told(at - began, at, alone=alone)
            self.adaptive.ended(name)
            self.answered[name] += 1
            self.took.append(at - began)


@pytest.fixture(autouse=True)
def luck() -> None:
    random.seed(7)


def load(at_a_time: int = 8, takes: float = 0.02, bounds: Admission = BOUNDS) -> Load:
    return Load(Adaptive(bounds, 0.0), Server(at_a_time, takes))


def test_what_is_too_much_is_refused_and_the_rest_does_not_queue_for_long() -> None:
    made = load()  # bears 400 calls a second
    made.run(3, {"a": (4000, 1), "b": (4000, 1)})
    made.run(5, {"a": (4000, 1), "b": (4000, 1)})
    assert sum(made.answered.values()) > 0.9 * 400 * 5  # it is kept busy
    assert sorted(made.took)[len(made.took) // 2] < 0.02 + 2 * 0.05
    assert sum(made.refused.values()) > 0


def test_without_a_limit_the_same_would_queue_for_ever() -> None:
    made = load(bounds=Admission.model_validate({"floor": 10_000, "ceiling": 10_000, "queue": "50ms"}))
    made.run(3, {"a": (4000, 1), "b": (4000, 1)})
    assert max(made.took) > 2


def test_what_the_model_bears_is_not_refused() -> None:
    made = load(at_a_time=64)
    made.run(5, {"a": (1500, 1), "b": (1500, 1)})
    made.run(10, {"a": (1000, 1), "b": (1000, 1)})
    assert sum(made.refused.values()) < 0.01 * sum(made.answered.values())


def test_the_limit_follows_when_the_model_becomes_faster_and_slower() -> None:
    made = load(at_a_time=8)
    both = {"a": (5000.0, 1), "b": (5000.0, 1)}
    made.run(5, both)
    few = made.adaptive.limit
    made.server = Server(64, 0.02)
    made.run(15, both)
    many = made.adaptive.limit
    made.server = Server(8, 0.02)
    made.run(10, both)
    assert few < 60 < many
    assert made.adaptive.limit < 60


def test_the_limit_stays_between_floor_and_ceiling() -> None:
    made = load(at_a_time=1)
    made.run(5, {"a": (1000, 1), "b": (1000, 1)})
    assert made.adaptive.limit >= BOUNDS.floor
    assert adapted(5.0, BOUNDS, 1.0, 5, full=False) == 4.5
    assert adapted(4.0, BOUNDS, 1.0, 5, full=False) == BOUNDS.floor
    assert adapted(199.0, BOUNDS, 0.0, 199, full=False) == BOUNDS.ceiling
    assert adapted(16.0, BOUNDS, 0.0, 16, full=False) == 17.6
    assert adapted(5.0, BOUNDS, 0.0, 5, full=False) == 6.0
    assert adapted(16.0, BOUNDS, 0.0, 7, full=False) == 16.0  # nobody has tried whether it could be more
    assert adapted(20.0, BOUNDS, 0.0, 20, full=True) == 18.0


def test_the_lowest_level_is_shed_first() -> None:
    made = load()
    both = {"a": (150.0, 1), "b": (4000.0, 3)}
    made.run(5, both)
    made.run(5, both)
    assert made.refused["a"] < 0.01 * made.answered["a"]
    assert made.refused["b"] > made.answered["b"]


def test_who_calls_twenty_times_as_often_takes_nothing_from_another() -> None:
    made = load()
    both = {"modest": (100.0, 1), "greedy": (4000.0, 1)}  # a quarter of what it bears, and ten times all of it
    made.run(5, both)
    made.run(5, both)
    assert made.refused["modest"] < 0.08 * made.answered["modest"]


def test_by_turns_the_one_who_calls_more_often_would_have_it_all(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.adaptive._GREED", 10**6)
    made = load()
    both = {"modest": (100.0, 1), "greedy": (4000.0, 1)}
    made.run(5, both)
    made.run(5, both)
    assert made.refused["modest"] > 0.5 * made.answered["modest"]


@pytest.mark.parametrize(
    ("limit", "running", "of_caller", "level", "expected"),
    [
        (4, 0, 0, 1, True),
        (4, 2, 2, 1, True),
        (4, 3, 3, 1, False),  # the last is for who has none
        (4, 3, 0, 1, True),
        (4, 4, 0, 1, False),
        (100, 80, 76, 1, True),
        (100, 80, 77, 1, False),
        (100, 89, 0, 2, True),
        (100, 90, 0, 2, False),
        (100, 60, 0, 9, False),
        (1, 0, 0, 1, True),
        (1, 0, 0, 5, True),  # there is always room for one
    ],
)
def test_whether_another_call_goes(limit: int, running: int, of_caller: int, level: int, expected: bool) -> None:
    assert fits(limit, running, of_caller, level) is expected


def test_one_who_leaves_early_tells_nothing_and_one_who_leaves_late_does() -> None:
    adaptive = Adaptive(BOUNDS, 0.0)
    for _ in range(60):
        adaptive.began("a")
    for number in range(100):
        adaptive.told(0.01, number * 0.01, alone=True)
    grown = adaptive._limit
    assert grown > BOUNDS.floor
    for number in range(10):
        adaptive.left(0.02, 1.0 + number * 0.1)
    assert adaptive._limit == grown
    for number in range(30):
        adaptive.left(0.5, 2.0 + number * 0.1)
    assert adaptive._limit < grown
