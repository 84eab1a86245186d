"""Slugs: Kubernetes takes them, and no two models have one."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mesh.slug import slug
from protos.names import MODEL_NAME

NAMES = st.from_regex(MODEL_NAME, fullmatch=True)


@pytest.mark.parametrize("name", ["digits", "7", "a-b", "1e3", "a" * 40])
def test_a_name_that_is_one_already_stays(name: str) -> None:
    assert slug(name) == name


@pytest.mark.parametrize(
    ("name", "start"),
    [("Digits", "digits-"), ("vision-2.1_a", "vision-2-1-a-"), ("a-", "a-"), ("a" * 41, "a" * 31 + "-"), ("_", "")],
)
def test_a_name_that_is_none_gets_a_hash(name: str, start: str) -> None:
    assert re.fullmatch(f"{start}[0-9a-f]{{8}}", slug(name))


def test_names_that_would_meet_are_told_apart_by_it() -> None:
    names = ["a-b", "A-b", "a.b", "a_b", "a--b", "a-b-", *("a" * length for length in range(40, 128))]
    assert len({slug(name) for name in names}) == len(names)


@given(NAMES)
def test_a_slug_is_a_label_and_leaves_room_for_a_version(name: str) -> None:
    assert re.fullmatch(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?", slug(name))
    assert len(f"{slug(name)}-v{'9' * 18}") <= 63
