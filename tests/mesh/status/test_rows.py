"""What was asked for beside what is."""

from __future__ import annotations

from mesh.status.counts import Copies, Counts
from mesh.status.models import Model, Version
from mesh.status.rows import Look, Row, rows

MODELS = (Model("digits", (Version("1", "one", 90.0), Version("2", "two", 10.0))),)


def look(at: float, one: Counts, two: Counts, models: tuple[Model, ...] = MODELS) -> Look:
    return Look(at, models, {"one": one, "two": two}, {"one": Copies(2, 1), "two": Copies(1)})


def test_a_row_for_each_version() -> None:
    before = look(10.0, Counts({0: 100}), Counts({0: 5}))
    after = look(12.0, Counts({0: 170}, {(3.0, 0.0): 70}), Counts({0: 15, 14: 20}, overflow=4, open=("rq_open",)))
    assert rows(before, after) == (
        Row("digits", "1", 90.0, 70.0, 35.0, {0: 70}, 3.0, 3.0, 2, 1, 0, ()),
        Row("digits", "2", 10.0, 30.0, 15.0, {0: 10, 14: 20}, None, None, 1, 0, 4, ("rq_open",)),
    )


def test_without_calls_there_is_no_share() -> None:
    found = rows(look(1.0, Counts(), Counts()), look(2.0, Counts(), Counts()))
    assert [(row.share, row.rate, row.p50) for row in found] == [(None, 0.0, None)] * 2


def test_a_version_that_is_new_was_not_counted_before() -> None:
    old = Look(1.0, (), {}, {})
    (first, second) = rows(old, look(2.0, Counts({0: 4}), Counts()))
    assert (first.share, first.rate, second.copies) == (100.0, 4.0, 1)
    no_copies = Look(2.0, MODELS, {}, {})
    assert [row.copies for row in rows(old, no_copies)] == [0, 0]
