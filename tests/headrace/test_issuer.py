from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator

import aiohttp
import jwt
import pytest

from headrace.commands import token
from headrace.demo.issuer import Issuer
from headrace.demo.state import State
from headrace.failure import CommandError


@pytest.fixture
async def issuer() -> AsyncIterator[Issuer]:
    async with Issuer().serving() as serving:
        yield serving


async def get(url: str) -> dict[str, object]:
    async with aiohttp.ClientSession() as session, session.get(url) as response:
        assert response.status == 200
        found: dict[str, object] = await response.json()
        return found


async def verified(issuer: Issuer, encoded: str) -> dict[str, object]:
    """The claims, by the way of any relying party: discovery, keys, signature."""
    metadata = await get(f"{issuer.url}/.well-known/openid-configuration")
    assert metadata["issuer"] == issuer.url
    keys = jwt.PyJWKSet.from_dict(await get(str(metadata["jwks_uri"])))
    key = keys[jwt.get_unverified_header(encoded)["kid"]]
    claims: dict[str, object] = jwt.decode(encoded, key, algorithms=["ES256"], audience="headrace", issuer=issuer.url)
    return claims


async def test_its_tokens_are_proved_by_its_published_keys(issuer: Issuer) -> None:
    claims = await verified(issuer, issuer.token("someone", "infer:digits infer:letters", 60))
    assert (claims["sub"], claims["scope"]) == ("someone", "infer:digits infer:letters")
    assert 50 < float(str(claims["exp"])) - time.time() <= 60


async def test_a_forged_token_is_not_proved(issuer: Issuer) -> None:
    with pytest.raises(jwt.InvalidSignatureError):
        await verified(issuer, issuer.forged())


async def test_an_expired_token_has_expired(issuer: Issuer) -> None:
    with pytest.raises(jwt.ExpiredSignatureError):
        await verified(issuer, issuer.expired())


async def test_what_it_publishes_holds_no_private_key(issuer: Issuer) -> None:
    [key] = issuer.jwks()["keys"]
    assert sorted(key) == ["alg", "crv", "kid", "kty", "use", "x", "y"]


def running(issuer: Issuer, secret: str) -> State:
    return State(os.getpid(), "127.0.0.1:1", "127.0.0.1:1", issuer.url, secret, "", "")


async def test_who_has_the_secret_gets_a_token(issuer: Issuer) -> None:
    encoded = await asyncio.to_thread(token.ask, running(issuer, issuer.secret), "me & you", "a b", 30.0)
    claims = await verified(issuer, encoded)
    assert (claims["sub"], claims["scope"]) == ("me & you", "a b")
    assert 20 < float(str(claims["exp"])) - time.time() <= 30


async def test_who_has_not_gets_none(issuer: Issuer) -> None:
    with pytest.raises(CommandError, match="401"):
        await asyncio.to_thread(token.ask, running(issuer, "guess"), "me", "a", 30.0)


@pytest.mark.parametrize(
    "form",
    [
        {},
        {"grant_type": "password"},
        {"grant_type": "client_credentials", "ttl": "-1"},
        {"grant_type": "client_credentials", "ttl": "nan"},
        {"grant_type": "client_credentials", "ttl": "1e9"},
        {"grant_type": "client_credentials", "ttl": "long"},
    ],
)
async def test_a_request_that_makes_no_sense_is_refused(issuer: Issuer, form: dict[str, str]) -> None:
    headers = {"authorization": f"Bearer {issuer.secret}"}
    async with aiohttp.ClientSession() as session:
        async with session.post(f"{issuer.url}/token", data=form, headers=headers) as response:
            assert (response.status, await response.json()) == (400, {"error": "invalid_request"})
        good = {"grant_type": "client_credentials"}
        async with session.post(f"{issuer.url}/token", data=good, headers=headers) as response:
            assert response.status == 200


async def test_a_gone_issuer_is_told() -> None:
    async with Issuer().serving() as serving:
        gone = running(serving, serving.secret)
    with pytest.raises(CommandError, match="does not answer; start one with: headrace demo"):
        await asyncio.to_thread(token.ask, gone, "me", "a", 30.0)
