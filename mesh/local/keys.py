"""Issuers' keys for RequestAuthentications that name where they are. Law: fetched keys stay until better ones are here.

As Istio's control plane does, keys are fetched here and written into what Envoy gets. While an issuer's keys were never
had, no token of it is good: a key that no one has stands in their place.
Source: Istio's pilot/pkg/model/jwks_resolver.go.
"""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import Callable, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import replace
from typing import Final

import aiohttp
from cryptography.hazmat.primitives.asymmetric import ec

from mesh.istio.message import Message
from mesh.istio.request_authentication import JWTRule, RequestAuthentication, check_jwks
from mesh.istio.resource import Resource
from mesh.istio.world import World
from protos.fetch import FetchError, get

_REFRESH: Final = 20 * 60.0  # seconds, as Istio does
_RETRY: Final = 5.0  # seconds after a failure
_PATIENCE: Final = 5.0  # seconds for each document
_DISCOVERY: Final = "/.well-known/openid-configuration"


def sources(world: World) -> frozenset[str]:
    """The addresses at which keys are to be fetched: of key sets, or of what tells their address (OpenID discovery)."""
    rules = [rule for one in world.of(RequestAuthentication) for rule in one.spec.jwt_rules]
    return frozenset(_source(rule) for rule in rules if not rule.jwks)


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

    def __init__(self, session: aiohttp.ClientSession, tell: Callable[[str], None]) -> None:
        self._session = session
        self._tell = tell
        self._nobody = nobodys_key()
        self._failing: set[str] = set()
        self.current: Mapping[str, str] = {}

    async def have(self, wanted: AbstractSet[str]) -> None:
        """Have the keys of these sources, and of no others; those that are there are not fetched again."""
        new = sorted(wanted - self.current.keys())
        found = dict(zip(new, await asyncio.gather(*map(self._fetched, new)), strict=True))
        self.current = {source: keys for source, keys in {**self.current, **found}.items() if source in wanted}

    async def refresh(self) -> bool:
        """Wait until the keys are due, fetch them anew, and say whether some are others."""
        await asyncio.sleep(_RETRY if self._failing & self.current.keys() else _REFRESH)
        before = self.current
        found = await asyncio.gather(*map(self._fetched, before))
        fresh = dict(zip(before, found, strict=True))
        self.current = {source: fresh.get(source, keys) for source, keys in self.current.items()}
        return fresh != before

    async def _fetched(self, source: str) -> str:
        try:
            keys = await self._get(source)
            if source.endswith(_DISCOVERY):
                keys = await self._get(str(json.loads(keys)["jwks_uri"]))
            check_jwks(keys)
        except (FetchError, aiohttp.ClientError, TimeoutError, ValueError, KeyError, TypeError) as error:
            if source not in self._failing:
                self._tell(f"the keys at {source} cannot be had ({error or type(error).__name__}); it is tried again")
            self._failing.add(source)
            return self.current.get(source, self._nobody)
        self._failing.discard(source)
        return keys

    async def _get(self, url: str) -> str:
        async with asyncio.timeout(_PATIENCE):
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
