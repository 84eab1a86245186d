"""RE2 patterns in Python. A real Envoy judges alike in tests/mesh/explain/test_matcher_in_envoy.py."""

from __future__ import annotations

import re
import string
import warnings

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mesh.istio.re2 import matches, translated
from mesh.istio.regex import mistake_in_regex

ASCII = "".join(map(chr, range(128)))


@pytest.mark.parametrize(
    ("pattern", "characters"),
    [
        (r"\pL", string.ascii_letters),
        (r"\p{Lu}", string.ascii_uppercase),
        (r"\p{^Lu}", "".join(one for one in ASCII if not one.isupper())),
        (r"\P{Lu}", "".join(one for one in ASCII if not one.isupper())),
        (r"\P{^Lu}", string.ascii_uppercase),
        (r"\p{Latin}", string.ascii_letters),
        (r"\p{Greek}", ""),
        (r"[\p{Greek}b]", "b"),
        (r"[^\pL]", "".join(one for one in ASCII if not one.isalpha())),
        (r"[[:alpha:][:digit:]]", string.ascii_letters + string.digits),
        (r"[[:^alpha:]]", "".join(one for one in ASCII if not one.isalpha())),
        (r"[[:punct:]]", string.punctuation),
        (r"[[:word:]]", string.ascii_letters + string.digits + "_"),
        (r"[]a[&~|-]", "]a[&~|-"),
        (r"[^]a]", "".join(one for one in ASCII if one not in "]a")),
        (r"\C", ASCII),
        (r"\Q.\E", "."),
        (r"\Q[", "["),
        (r"(?<name>a)\z", "a"),
        (r"\d", string.digits),
    ],
)
def test_characters(pattern: str, characters: str) -> None:
    assert mistake_in_regex(pattern) is None
    assert {one for one in ASCII if matches(pattern, one)} == {*characters}


def test_the_whole_text_must_match() -> None:
    assert matches("a|ab", "ab")
    assert not matches("a", "ab")
    assert not matches("a$", "a\n")


@given(st.text("ab[]^-&~|.(){}*?+\\dpL:Q", max_size=12))
def test_what_is_taken_can_be_asked(pattern: str) -> None:
    with warnings.catch_warnings(action="ignore"):  # of Python's plans for sets of characters
        if mistake_in_regex(pattern) is None:
            re.compile(translated(pattern))
