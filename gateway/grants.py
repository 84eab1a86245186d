"""Whom grants are for. Law: what a caller has is found by what it claims, not by a look at every grant there is."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from hashlib import sha256
from operator import itemgetter
from typing import Final

from gateway.caller import Caller
from gateway.limits import NO_LIMITS, Limits
from gateway.rpcs import Action

LONGEST: Final = 64  # characters of a grant's name
_ODD: Final = re.compile(r"[^A-Za-z0-9._:/=*@,+~-]")
_WHOLE: Final = frozenset(
    {
        *("iss", "sub", "jti", "azp", "client_id"),
        *("name", "given_name", "family_name", "middle_name", "nickname", "preferred_username", "email"),
    }
)
"""Claims that are one value though there be blanks in it (RFC 7519, RFC 9068, OpenID Connect Core section 5.1)."""


@dataclass(frozen=True)
class Grant:
    """Whom it is for (issuer and claims, all of which must match), which models, which actions, within which limits.

    A model or claim value may end in `*`. A claim that is a list, or a string of words, matches by member, except for
    claims that name the caller: nobody becomes `admin` by the name of "admin bob". `name` is what metrics, traces and
    logs call it.
    """

    issuer: str
    claims: Mapping[str, str]
    models: tuple[str, ...]
    actions: frozenset[Action]
    limits: Limits = NO_LIMITS
    name: str = ""


_Placed = tuple[int, Grant]
"""A grant and its place in the configuration."""


class Grants:
    """Many grants, by one claim of each that says one value; those without one are looked at for each caller."""

    def __init__(self, grants: Iterable[Grant]) -> None:
        self._by_claim: dict[tuple[str, str, str], list[_Placed]] = {}  # issuer, name of the claim, value
        self._others: dict[str, list[_Placed]] = {}  # by issuer
        for placed in enumerate(grants):
            grant = placed[1]
            exact = [(name, value) for name, value in grant.claims.items() if not value.endswith("*")]
            if exact:
                self._by_claim.setdefault((grant.issuer, *exact[0]), []).append(placed)
            else:
                self._others.setdefault(grant.issuer, []).append(placed)
        self._names = frozenset(name for _, name, _ in self._by_claim)

    def of(self, caller: Caller) -> Iterator[Grant]:
        """The grants that are for the caller, in the order of the configuration."""
        found = list(self._others.get(caller.issuer, []))
        for name in self._names & caller.claims.keys():
            for member in set(members(name, caller.claims[name])):
                found += self._by_claim.get((caller.issuer, name, member), [])
        return (grant for _, grant in sorted(found, key=itemgetter(0)) if matches(grant, caller))


def matches(grant: Grant, caller: Caller) -> bool:
    """Whether the grant is for this caller."""
    return grant.issuer == caller.issuer and next(unmatched(grant, caller), None) is None


def unmatched(grant: Grant, caller: Caller) -> Iterator[str]:
    """The claims by which a grant of the caller's issuer is not for this caller."""
    for name, wanted in grant.claims.items():
        if not _claim_matches(name, caller.claims.get(name), wanted):
            yield name


def _claim_matches(name: str, claim: object, wanted: str) -> bool:
    if wanted.endswith("*"):
        return any(member.startswith(wanted[:-1]) for member in members(name, claim))
    return wanted in members(name, claim)


def members(name: str, claim: object) -> list[str]:
    """The values that a claim has: those of a list, or of a string of words and it as a whole."""
    if isinstance(claim, str):
        return [claim] if name in _WHOLE else [claim, *claim.split(" ")]
    return [member for member in claim if isinstance(member, str)] if isinstance(claim, list) else []


def named(claims: Mapping[str, str]) -> str:
    """What a grant is called that has no name of its own: by its claims, as in `scope=infer:digits`."""
    name = ",".join(f"{claim}={value}" for claim, value in claims.items()) or "everyone"
    plain = _ODD.sub("_", name)
    return plain if len(plain) <= LONGEST else f"{plain[: LONGEST - 9]}~{sha256(name.encode()).hexdigest()[:8]}"
