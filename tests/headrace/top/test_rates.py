"""Two looks make rates, shares and quantiles."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.top.rates import Behind, quantile, view
from headrace.top.read import Copies, Look, look
from protos.metrics.described import LATENCY
from tests.headrace.top.stand_in import Gateway

INFINITE = float("inf")


def two(gateway: Gateway, seconds: float = 2.0, **more: object) -> tuple[Look, Look]:
    """A look, more calls, and another look."""
    before = look(10.0, gateway.page())
    for _ in range(2):
        gateway.calls(45, "digits", "1", 0.004, "express")
        gateway.calls(5, "digits", "2", 0.020)
        gateway.calls(1, "digits", "2", 0.5, status="UNAVAILABLE", reason="MODEL_NOT_READY")
        gateway.calls(3, "digits", "", 0.0001, status="RESOURCE_EXHAUSTED", reason="RATE_LIMITED")
        gateway.calls(2, "", "", 0.0001, status="PERMISSION_DENIED", reason="NOT_GRANTED")
        gateway.calls(10, "vision", "1", 0.1)
    return before, look(10.0 + seconds, gateway.page())


def test_what_is_told_is_what_has_happened_since() -> None:
    gateway = Gateway()
    gateway.calls(1000, "digits", "1", 1.0)  # before
    found = view(*two(gateway), {})
    assert (found.seconds, found.rate) == (2.0, 66)
    assert found.ok == pytest.approx(120 / 132)
    assert found.refused == {"RATE_LIMITED": 3, "NOT_GRANTED": 2, "MODEL_NOT_READY": 1}
    assert [(row.model, row.version, row.rate) for row in found.rows] == [
        ("digits", "1", 45),
        ("digits", "2", 6),
        ("digits", "", 3),
        ("vision", "1", 10),
    ]
    one, two_, none, vision = found.rows
    assert (one.share, two_.share, none.share) == (pytest.approx(45 / 51), pytest.approx(6 / 51), None)
    assert (one.ok, two_.ok, none.ok, vision.ok) == (1, pytest.approx(5 / 6), 0, 1)
    assert one.express == none.express == pytest.approx(45 / 54) and vision.express == 0
    assert two_.failed == {"UNAVAILABLE": 1}
    assert 0.0025 < one.p50 < one.p99 <= 0.005 and 0.01 < two_.p50 <= 0.025
    assert none.p50 is None


def test_only_what_is_wanted_is_told() -> None:
    found = view(*two(Gateway()), {}, lambda model: model == "vision")
    assert [row.model for row in found.rows] == ["vision"]
    assert (found.rate, found.ok, found.refused, found.active) == (10, 1, {}, {})


def test_a_gateway_that_began_anew_has_counted_from_nothing() -> None:
    old = Gateway()
    old.calls(1000, "digits", "1")
    young = Gateway()
    young.calls(6, "digits", "1", 0.02)
    found = view(look(0.0, old.page()), look(2.0, young.page()), {})
    assert found.rate == 3
    assert found.rows[0].p50 == pytest.approx(0.0175)


def test_where_nothing_happens_rows_stay() -> None:
    gateway = Gateway()
    gateway.calls(1, "digits", "1")
    gateway.calls(1, "digits", "", reason="RATE_LIMITED", status="RESOURCE_EXHAUSTED")
    page = gateway.page()
    (row,) = view(look(0.0, page), look(1.0, page), {}).rows
    assert (row.version, row.rate, row.ok, row.p50, row.share, row.express) == ("1", 0, None, None, None, None)


def test_busiest_models_come_first_and_versions_by_number() -> None:
    gateway = Gateway()
    before = look(0.0, gateway.page())
    for model, version in (("b", "10"), ("b", "9"), ("a", "1"), ("c", "1"), ("c", "2")):
        gateway.calls(1, model, version)
    found = view(before, look(1.0, gateway.page()), {})
    told = [(row.model, row.version) for row in found.rows]
    assert told == [("b", "9"), ("b", "10"), ("c", "1"), ("c", "2"), ("a", "1")]


def test_of_a_meshs_versions_its_envoy_tells() -> None:
    gateway = Gateway()
    before = look(0.0, gateway.page())
    gateway.calls(100, "digits", "", 0.01, "express")  # which version it was only the mesh knows
    gateway.calls(10, "digits", "", 0.0001, status="RESOURCE_EXHAUSTED", reason="RATE_LIMITED")
    gateway.calls(5, "vision", "", 0.01)
    after = look(1.0, gateway.page())
    behind = {
        ("digits", "1"): Behind(75, {"UNAVAILABLE": 15}, 0.002, 0.03, 3, 1, 2.0, ("rq_open",)),
        ("digits", "2"): Behind(25, {}, 0.003, 0.01, 1, 0, 0.0, ()),
        ("unseen", "1"): Behind(0, {}, None, None, 1, 0, 0.0, ()),
    }
    one, two_, none, vision = view(before, after, behind).rows
    assert (one.version, one.rate, one.share, one.ok, one.p50, one.p99) == ("1", 75, 0.75, 0.8, 0.002, 0.03)
    assert (one.copies, one.ready, one.ejected, one.over, one.open) == (3, 2, 1, 2.0, ("rq_open",))
    assert (two_.version, two_.share, two_.ready) == ("2", 0.25, 1)
    assert (none.version, none.rate) == ("", 10)  # what was refused, and not what came to one of these
    assert (vision.version, vision.rate) == ("", 5)


def test_copies_are_the_gateways_where_no_mesh_tells() -> None:
    before, after = two(Gateway())
    (row, *_) = view(before, replace(after, copies={("digits", "1"): Copies(3, 2)}), {}).rows
    assert (row.copies, row.ready) == (3, 2)


@pytest.mark.parametrize(
    ("buckets", "share", "wanted"),
    [
        ({}, 0.5, None),
        ({1.0: 0, INFINITE: 0}, 0.5, None),
        ({1.0: 10, INFINITE: 0}, 0.5, 0.5),
        ({1.0: 10, 2.0: 10, INFINITE: 0}, 0.5, 1.0),
        ({1.0: 10, 2.0: 10, INFINITE: 0}, 0.75, 1.5),
        ({1.0: 0, 2.0: 0, 4.0: 1, INFINITE: 0}, 0.5, 3.0),
        ({1.0: 1, INFINITE: 99}, 0.5, 1.0),  # as by histogram_quantile
    ],
)
def test_quantiles(buckets: dict[float, float], share: float, wanted: float | None) -> None:
    assert quantile(buckets, share) == wanted


@given(st.lists(st.floats(0.0001, 20), min_size=1), st.floats(0.01, 1))
def test_a_quantile_is_in_the_bucket_of_the_true_one(values: list[float], share: float) -> None:
    gateway = Gateway()
    for value in values:
        gateway.calls(1, "digits", "1", value)
    found = quantile(look(0.0, gateway.page()).times["digits", "1"], share)
    rank = int(share * len(values))  # it may be this one's or, by a hair, the next's
    low, high = sorted(values)[max(0, rank - 1)], sorted(values)[min(rank, len(values) - 1)]
    lower = max((bound for bound in LATENCY if bound < low), default=0.0)
    upper = next(bound for bound in LATENCY if high <= bound)
    assert lower * (1 - 1e-6) <= found <= upper * (1 + 1e-6)
