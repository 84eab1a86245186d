"""Counting: labels are bounded, both forms of a histogram agree, and threads lose nothing."""

from __future__ import annotations

import math
from threading import Thread

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protos.metrics import instruments
from protos.metrics.described import LATENCY, Described, Kind
from protos.metrics.instruments import OTHER, Registry
from protos.metrics.snapshot import Distribution, Exemplar, Snapshot, merged, told

CALLS = Described("headrace.calls", Kind.COUNTER, "{call}", "Calls.", ("headrace.model.name", "headrace.lane"))
TIMES = Described("headrace.call.duration", Kind.HISTOGRAM, "s", "How long.", ("headrace.lane",), LATENCY)
DEPTH = Described("headrace.queue.depth", Kind.GAUGE, "{request}", "Waiting.", ("headrace.model.name",))


def registry() -> Registry:
    return Registry(lambda: 100.0)


def test_a_counter_adds_up_by_its_labels() -> None:
    made = registry()
    calls = made.counter(CALLS)
    calls.add(1, "digits", "python")
    calls.add(2, "digits", "python")
    calls.add(1, "digits", "express")
    assert told(made.snapshot().families, CALLS) == {("digits", "python"): 3, ("digits", "express"): 1}


def test_threads_lose_nothing() -> None:
    made = registry()
    calls, times = made.counter(CALLS), made.histogram(TIMES)

    def count() -> None:
        for _ in range(5000):
            calls.add(1, "digits", "python")
            times.record(0.01, "python")

    threads = [Thread(target=count) for _ in range(4)]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        made.snapshot()
    assert told(made.snapshot().families, CALLS) == {("digits", "python"): 20_000}
    (found,) = told(made.snapshot().families, TIMES).values()
    assert isinstance(found, Distribution) and found.count == 20_000


def test_labels_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(instruments, "MOST", 3)
    made = registry()
    calls = made.counter(CALLS)
    for number in range(5):
        calls.add(1, f"model-{number}", "python")
    calls.add(1, "model-0", "python")
    assert told(made.snapshot().families, CALLS) == {
        ("model-0", "python"): 2,
        ("model-1", "python"): 1,
        ("model-2", "python"): 1,
        (OTHER, OTHER): 2,
    }


def test_labels_are_as_many_as_described() -> None:
    with pytest.raises(TypeError, match="has the labels"):
        registry().counter(CALLS).add(1, "digits")
    with pytest.raises(TypeError, match="has the labels"):
        registry().histogram(TIMES).record(1.0)


@given(st.lists(st.floats(0, 1e5)))
def test_both_forms_of_a_histogram_hold_what_was_measured(values: list[float]) -> None:
    made = registry()
    times = made.histogram(TIMES)
    for value in values:
        times.record(value, "python")
    (found,) = told(made.snapshot().families, TIMES).values() or [Distribution((0,), 0.0)]
    assert isinstance(found, Distribution)
    assert found.count == len(values) == found.zeros + sum(found.powers.values())
    assert math.isclose(found.sum, sum(values), abs_tol=1e-9)
    for index in found.powers:
        low, high = 2 ** ((index - 1) / 8), 2 ** (index / 8)
        assert any(low * (1 - 1e-9) < value <= high * (1 + 1e-9) for value in values)
    for bound, below in zip(LATENCY, found.counts, strict=False):
        assert below <= sum(value <= bound for value in values)


def test_the_latest_exemplar_of_a_bucket_stays() -> None:
    made = registry()
    times = made.histogram(TIMES)
    for at, trace in ((1.0, "a"), (2.0, "b")):
        times.record(0.0011, "python", exemplar=Exemplar(trace * 32, 0.0011, at))
    times.record(0.0011, "python")
    (found,) = told(made.snapshot().families, TIMES).values()
    assert isinstance(found, Distribution)
    assert found.exemplars == {LATENCY.index(0.0025): Exemplar("b" * 32, 0.0011, 2.0)}


def test_who_keeps_numbers_is_asked_for_them() -> None:
    made, depth = registry(), {("digits",): 1.0}
    made.asked(DEPTH, lambda: depth)
    assert told(made.snapshot().families, DEPTH) == {("digits",): 1.0}
    depth[("other",)] = 2.0
    assert told(made.snapshot().families, DEPTH) == {("digits",): 1.0, ("other",): 2.0}


def test_an_instrument_is_of_the_kind_that_it_is_described_as() -> None:
    for make in (lambda: registry().counter(TIMES), lambda: registry().histogram(CALLS)):
        with pytest.raises(TypeError, match="not a"):
            make()
    with pytest.raises(TypeError, match="is a histogram"):
        registry().asked(TIMES, dict)


def counted(number: int, since: float) -> Snapshot:
    made = Registry(lambda: since)
    made.counter(CALLS).add(number, "digits", "python")
    made.histogram(TIMES).record(0.5 * number, "python", exemplar=Exemplar("c" * 32, 0.5, float(number)))
    return made.snapshot()


def test_several_processes_are_one() -> None:
    together = merged([counted(1, 5.0), counted(2, 3.0)])
    assert (together.since, together.at) == (3.0, 5.0)
    assert told(together.families, CALLS) == {("digits", "python"): 3}
    (found,) = told(together.families, TIMES).values()
    assert isinstance(found, Distribution)
    assert (found.count, found.sum) == (2, 1.5)
    assert sum(found.powers.values()) == 2
    assert len(found.exemplars) == 2


def test_what_one_alone_has_stays_as_it_is() -> None:
    made = Registry(lambda: 0.0)
    made.asked(DEPTH, lambda: {("digits",): 3.0})
    assert told(merged([counted(1, 0.0), made.snapshot()]).families, DEPTH) == {("digits",): 3.0}
