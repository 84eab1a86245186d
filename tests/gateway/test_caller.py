"""Callers and their names."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.caller import Caller


def _caller(subject: str, issuer: str = "https://id.example/") -> Caller:
    return Caller(issuer, subject, {}, 0.0)


def test_a_plain_name() -> None:
    assert _caller("tester").name == "tester@https://id.example/"


def test_no_subject_can_pass_for_another_issuers() -> None:
    forged = _caller("root@https://id.example/", "https://other.example/").name
    assert forged == "root%40https%3A%2F%2Fid.example%2F@https://other.example/"
    assert forged.count("@") == 1


_TEXT = st.text(min_size=1, max_size=30)


@given(_TEXT, _TEXT)
def test_names_are_visible_ascii(subject: str, issuer: str) -> None:
    name = _caller(subject, issuer).name
    assert all(0x21 <= ord(character) <= 0x7E for character in name)
    assert name.count("@") == 1


@given(_TEXT, _TEXT, _TEXT, _TEXT)
def test_two_callers_never_share_a_name(subject: str, issuer: str, other: str, another: str) -> None:
    if (subject, issuer) != (other, another):
        assert _caller(subject, issuer).name != _caller(other, another).name


@pytest.mark.parametrize("subject", ["a\r\nx-caller: root", "a b", "ü", "%40"])
def test_what_could_break_a_header_is_quoted(subject: str) -> None:
    assert not set("\r\n ü") & set(_caller(subject).name)


def test_callers_are_compared_by_identity() -> None:
    one, other = _caller("a"), _caller("a")
    assert one != other
    assert len({one, other}) == 2


def test_a_subject_that_is_no_unicode_has_a_name_too() -> None:
    # JSON can write a lone surrogate, which has no UTF-8.
    assert _caller("\ud800").name.endswith("@https://id.example/")
