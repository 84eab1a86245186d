"""What a gateway would make of a token. Law: nothing is decided here: those who decide are asked.

So what is told is true of the gateway that runs; for its operators, who may read why a token is refused.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

from gateway.authorize import Authorizer
from gateway.caller import Caller
from gateway.grants import Grant, matches, unmatched
from gateway.in_force import grants_of
from gateway.issuers import trusted
from gateway.jws import BadToken, json_object, parse
from gateway.limits import Limits
from gateway.rpcs import Action
from gateway.settings import Settings
from gateway.verify import Verifier
from mesh.catalog import Catalog
from protos.errors import HeadraceError


class OfGrant(NamedTuple):
    """One grant of the configuration, whether it is for the caller, and claims that are not as wanted: wanted, had."""

    grant: Grant
    ours: bool
    missing: Mapping[str, tuple[str, object]]


@dataclass(frozen=True)
class Explanation:
    """`algorithm`, `kid` and `claims` as the token has them, true or not; `refused`: why it is, else there is a caller.

    `models`: what the caller may do with each model that it may do anything with, and within which limits.
    """

    algorithm: str = ""
    kid: str | None = None
    claims: Mapping[str, Any] = field(default_factory=dict)
    refused: str = ""
    caller: Caller | None = None
    grants: tuple[OfGrant, ...] = ()
    models: Mapping[str, Mapping[Action, Limits]] = field(default_factory=dict)


async def explained(token: str, settings: Settings, now: float) -> Explanation:
    """What the gateway of these settings would make of the token at `now`, seconds since the epoch."""
    try:
        jws = parse(token)
        said = Explanation(jws.algorithm, jws.kid, json_object(jws.payload))
    except BadToken as error:
        return Explanation(refused=f"this is no signed JWT: {error}")
    async with contextlib.AsyncExitStack() as stack:
        verifier = Verifier(await trusted(settings, stack), lambda: now)
        try:
            caller = await verifier.verify([("authorization", f"Bearer {token}")])
        except HeadraceError as error:
            why = f"{error.reason}: {error.public}"
            return replace(said, refused=f"{why} ({error.private})" if error.private else why)
    grants = grants_of(settings)
    found = tuple(_of_grant(grant, caller) for grant in grants)
    return replace(said, caller=caller, grants=found, models=_models(grants, settings.catalog, caller))


def _of_grant(grant: Grant, caller: Caller) -> OfGrant:
    missing = {name: (grant.claims[name], caller.claims.get(name)) for name in unmatched(grant, caller)}
    return OfGrant(grant, matches(grant, caller), missing)


def _models(grants: Iterable[Grant], catalog: Catalog, caller: Caller) -> Mapping[str, Mapping[Action, Limits]]:
    authorizer = Authorizer(grants)
    may: dict[str, dict[Action, Limits]] = {name: {} for name in catalog}
    for action in Action:
        granted = authorizer.granted(caller, action)
        for name, actions in may.items():
            if (right := granted.right(name)) is not None:
                actions[action] = right.limits
    return {name: actions for name, actions in may.items() if actions}
