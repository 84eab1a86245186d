"""Grants are found by what a caller claims: the same as by a look at each, and without it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway import grants as module
from gateway.caller import Caller
from gateway.grants import Grant, Grants, matches
from gateway.rpcs import Action

NAMES = st.sampled_from(["scope", "sub", "team"])
VALUES = st.sampled_from(["a", "b", "a b", "ab", ""])
WANTED = st.sampled_from(["a", "b", "a b", "a*", "*", ""])
ISSUERS = st.sampled_from(["https://one.example/", "https://two.example/"])
CLAIMS = st.dictionaries(NAMES, VALUES | st.lists(VALUES, max_size=2) | st.integers() | st.none(), max_size=3)
GRANTS = st.lists(
    st.builds(
        Grant,
        issuer=ISSUERS,
        claims=st.dictionaries(NAMES, WANTED, max_size=2),
        models=st.tuples(st.sampled_from(["m", "n", "*"])),
        actions=st.just(frozenset(Action)),
    ),
    max_size=8,
)


@given(issuer=ISSUERS, claims=CLAIMS, grants=GRANTS)
def test_what_is_found_is_what_matches(issuer: str, claims: dict[str, object], grants: list[Grant]) -> None:
    caller = Caller(issuer, "ada", claims, 1000.0)
    found = list(Grants(grants).of(caller))
    assert sorted(map(repr, found)) == sorted(repr(grant) for grant in grants if matches(grant, caller))


def test_of_ten_thousand_grants_few_are_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    looked_at: list[Grant] = []

    def counting(grant: Grant, caller: Caller) -> bool:
        looked_at.append(grant)
        return matches(grant, caller)

    issuer, actions = "https://one.example/", frozenset(Action)
    grants = Grants([Grant(issuer, {"sub": f"caller-{at}"}, ("m",), actions) for at in range(10_000)])
    monkeypatch.setattr(module, "matches", counting)
    (found,) = grants.of(Caller(issuer, "x", {"sub": "caller-7"}, 1000.0))
    assert found.claims == {"sub": "caller-7"}
    assert looked_at == [found]
