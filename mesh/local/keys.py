"""Issuers' keys for RequestAuthentications that name where they are. Law: fetched keys stay until better ones are here.

As Istio's control plane does, keys are fetched here and written into what Envoy gets. While an issuer's keys were never
had, no token of it is good: a key that no one has stands in their place.
Source: Istio's pilot/pkg/model/jwks_resolver.go.
"""

from __future__ import annotations

import asyncio
import base64
import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Final

import aiohttp
from cryptography.hazmat.primitives.asymmetric import ec

from mesh.istio.message import Message
from mesh.istio.request_authentication import JWTRule, RequestAuthentication, check_jwks
from mesh.istio.resource import Resource
from mesh.istio.world import World
from protos.fetch import FetchError, get

_PATIENCE: Final = 5.0  # seconds for each document, where a rule says no `timeout`
_DISCOVERY: Final = "/.well-known/openid-configuration"
_OF_DOCUMENTS: Final = (LookupError, TypeError, ValueError, RecursionError)  # by what is in them
_FAILURES: Final = (FetchError, aiohttp.ClientError, TimeoutError, *_OF_DOCUMENTS)


@dataclass(frozen=True)
class Pace:
    """Seconds between two fetches of keys, and after one that failed."""

    refresh: float = 20 * 60.0  # as Istio does
    retry: float = 5.0


def sources(world: World) -> Mapping[str, float]:
    """Where keys are to be fetched (key sets, or what tells their address by OpenID), and for how many seconds."""
    rules = [rule for one in world.of(RequestAuthentication) for rule in one.spec.jwt_rules if not rule.jwks]
    found: dict[str, float] = {}
    for rule in rules:
        patience = _PATIENCE if rule.timeout is None else rule.timeout.seconds
        found[_source(rule)] = max(patience, found.get(_source(rule), 0.0))
    return found


def filled(world: World, keys: Mapping[str, str]) -> World:
    """The world with every key set written out; `keys`: by source, as `sources` tells them."""
    return World(world.mesh, tuple(_filled(resource, keys) for resource in world.resources))


def nobodys_key() -> str:
    """A key set whose private key is lost at once."""
    numbers = ec.generate_private_key(ec.SECP256R1()).public_key().public_numbers()
    x, y = (
        base64.urlsafe_b64encode(number.to_bytes(32, "big")).rstrip(b"=").decode() for number in (numbers.x, numbers.y)
    )
    return json.dumps({"keys": [{"kty": "EC", "crv": "P-256", "kid": "nobody", "x": x, "y": y}]})


class Keys:
    """The keys at each source. `tell` gets a sentence for each source that fails, the first time."""

    def __init__(self, session: aiohttp.ClientSession, tell: Callable[[str], None], pace: Pace) -> None:
        self._session = session
        self._tell = tell
        self._pace = pace
        self._fetched_at: dict[str, float] = {}
        self._wanted: Mapping[str, float] = {}
        self._nobody = nobodys_key()
        self._failing: set[str] = set()
        self.current: Mapping[str, str] = {}

    async def have(self, wanted: Mapping[str, float]) -> None:
        """Have the keys of these `sources`, and of no others; those that are there are not fetched again."""
        self._wanted = wanted
        new = sorted(wanted.keys() - self.current.keys())
        found = dict(zip(new, await asyncio.gather(*map(self._fetched, new)), strict=True))
        self.current = {source: keys for source, keys in {**self.current, **found}.items() if source in wanted}
        self._failing &= wanted.keys()
        self._fetched_at = {source: at for source, at in self._fetched_at.items() if source in wanted}

    async def refresh(self) -> bool:
        """Wait a little, fetch the keys that are due, and say whether some are others."""
        await asyncio.sleep(self._pace.retry)
        due = [source for source in self.current if self._is_due(source)]
        fresh = dict(zip(due, await asyncio.gather(*map(self._fetched, due)), strict=True))
        before = self.current
        self.current = {source: fresh.get(source, keys) for source, keys in before.items()}
        return self.current != before

    def _is_due(self, source: str) -> bool:
        return source in self._failing or time.monotonic() - self._fetched_at[source] >= self._pace.refresh

    async def _fetched(self, source: str) -> str:
        self._fetched_at[source] = time.monotonic()
        try:
            patience = self._wanted.get(source, _PATIENCE)
            keys = await self._get(source, patience)
            if source.endswith(_DISCOVERY):
                keys = await self._get(str(json.loads(keys)["jwks_uri"]), patience)
            if not check_jwks(keys):
                raise FetchError("there are none")
        except _FAILURES as error:
            if source not in self._failing:
                self._tell(f"the keys at {source} cannot be had ({error or type(error).__name__}); it is tried again")
            self._failing.add(source)
            return self.current.get(source, self._nobody)
        self._failing.discard(source)
        return keys

    async def _get(self, url: str, patience: float) -> str:
        async with asyncio.timeout(patience):
            return (await get(self._session, url)).decode()


def _source(rule: JWTRule) -> str:
    return rule.jwks_uri or rule.issuer.rstrip("/") + _DISCOVERY


def _filled(resource: Resource[Message], keys: Mapping[str, str]) -> Resource[Message]:
    spec = resource.spec
    if not isinstance(spec, RequestAuthentication):
        return resource
    rules = tuple(
        rule if rule.jwks else rule.model_copy(update={"jwks": keys[_source(rule)]}) for rule in spec.jwt_rules
    )
    return replace(resource, spec=spec.model_copy(update={"jwt_rules": rules}))
