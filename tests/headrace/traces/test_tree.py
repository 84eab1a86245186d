"""Whatever ids a sender makes up, every span is shown once."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from headrace.traces.attempts import numbered
from headrace.traces.tree import tree
from tests.headrace.traces.some import span


def test_a_tree_has_parents_first_and_loses_no_span() -> None:
    spans = [
        span("cc", "aa", 30, 31),
        span("bb", "aa", 20, 21),
        span("dd", "bb", 25, 26),
        span("aa", "", 10, 11),
        span("ee", "ff", 5, 6),
    ]
    places = tree(spans)
    assert [(place.depth, place.span.id[:2], place.under) for place in places] == [
        (0, "ee", -1),
        (0, "aa", -1),
        (1, "bb", 1),
        (2, "dd", 2),
        (1, "cc", 1),
    ]
    assert [place.orphan for place in places] == [True, False, False, False, False]


def test_circles_are_shown_from_where_they_begin() -> None:
    places = tree([span("aa", "bb", 1), span("bb", "aa", 2), span("cc", "cc", 3)])
    assert [(place.span.id[:2], place.depth, place.orphan) for place in places] == [
        ("cc", 0, True),
        ("aa", 0, True),
        ("bb", 1, False),
    ]


@given(st.lists(st.tuples(st.sampled_from("abcdef"), st.sampled_from("abcdefg"), st.integers(0, 5)), max_size=12))
def test_no_ids_lose_a_span(made: list[tuple[str, str, int]]) -> None:
    spans = [span(of * 2, under * 2, start) for of, under, start in made]
    places = tree(spans)
    assert sorted(map(id, (place.span for place in places))) == sorted(map(id, spans))
    for at, place in enumerate(places):
        assert place.under < at
        assert place.depth == (0 if place.under < 0 else places[place.under].depth + 1)


def test_a_chain_without_end_is_no_recursion() -> None:
    spans = [span(f"{at:016x}", f"{at - 1:016x}" if at else "", at) for at in range(5000)]
    assert tree(spans)[-1].depth == 4999


def tries(*spans: tuple[int, int, bool]) -> list[tuple[int, int]]:
    """Which try each client span is, by (start, end, failed)."""
    made = [
        span(f"{at}1", "aa", start, end, kind="client", error=failed) for at, (start, end, failed) in enumerate(spans)
    ]
    return [(place.attempt, place.attempts) for place in numbered(tree([span("aa"), *made]))[1:]]


def test_a_try_follows_one_that_failed() -> None:
    assert tries((0, 2, True), (2, 4, True), (5, 6, False)) == [(1, 3), (2, 3), (3, 3)]


def test_calls_side_by_side_and_calls_after_good_ones_are_none() -> None:
    assert tries((0, 3, True), (2, 4, True)) == [(0, 0), (0, 0)]
    assert tries((0, 1, False), (2, 3, False)) == [(0, 0), (0, 0)]
    assert tries((0, 1, True)) == [(0, 0)]
    assert tries((0, 1, True), (2, 3, False), (4, 5, True), (6, 7, True)) == [(1, 2), (2, 2), (1, 2), (2, 2)]


def test_only_what_is_alike_is_a_try() -> None:
    one, other = span("11", "aa", 0, 1, error=True), span("22", "aa", 2, 3, service="worker-2")
    assert {place.attempts for place in numbered(tree([span("aa"), one, other]))} == {0}
    assert {place.attempts for place in numbered(tree([span("11", "", 0, 1, error=True), span("22", "", 2)]))} == {0}
