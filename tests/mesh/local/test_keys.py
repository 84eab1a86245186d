from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Iterator
from typing import Any

import aiohttp
import jwt
import pytest

from mesh.istio.request_authentication import RequestAuthentication
from mesh.istio.world import World
from mesh.local.keys import Keys, Pace, filled, nobodys_key, sources
from tests.gateway.tokens import Issuer
from tests.mesh.local.issuer import Server, serving
from tests.mesh.local.scene import world

NOW = Pace(refresh=0.0, retry=0.0)
SELDOM = Pace(refresh=1e9, retry=0.0)


def rules(*rules: str) -> World:
    return world(f"""
apiVersion: security.istio.io/v1
kind: RequestAuthentication
metadata: {{name: tokens, namespace: models}}
spec: {{jwtRules: [{", ".join(rules)}]}}
""")


@pytest.fixture
def server() -> Iterator[Server]:
    with serving() as made:
        yield made


@contextlib.asynccontextmanager
async def keys(told: list[str], pace: Pace = NOW) -> AsyncIterator[Keys]:
    async with aiohttp.ClientSession() as session:
        yield Keys(session, told.append, pace)


def good(token: str, jwks: str) -> bool:
    """Whether one of the keys has signed it."""
    for key in jwt.PyJWKSet.from_json(jwks).keys:
        with contextlib.suppress(jwt.InvalidSignatureError):
            jwt.decode(token, key, algorithms=["ES256"], options={"verify_aud": False})
            return True
    return False


def test_what_is_to_be_fetched() -> None:
    found = sources(
        rules(
            '{issuer: a, jwksUri: "https://a.example/keys"}',
            '{issuer: "https://b.example"}',
            '{issuer: "https://c.example/"}',
            "{issuer: d, jwks: '{\"keys\": []}'}",
            '{issuer: e, jwksUri: "https://a.example/keys", timeout: 7s}',
            '{issuer: f, jwksUri: "https://f.example/keys", timeout: 250ms}',
        )
    )
    discovery = ".well-known/openid-configuration"
    assert found == {
        "https://a.example/keys": 7.0,
        f"https://b.example/{discovery}": 5.0,
        f"https://c.example/{discovery}": 5.0,
        "https://f.example/keys": 0.25,
    }


def test_what_was_fetched_is_written_out() -> None:
    before = rules('{issuer: a, jwksUri: "https://a.example/keys"}', "{issuer: d, jwks: '{\"keys\": []}'}")
    after = filled(before, {"https://a.example/keys": '{"keys": [1]}'})
    (one,) = after.of(RequestAuthentication)
    assert [rule.jwks for rule in one.spec.jwt_rules] == ['{"keys": [1]}', '{"keys": []}']
    assert not sources(after)
    assert sources(before)


def test_nobodys_key_is_a_good_key_of_no_one() -> None:
    one, other = nobodys_key(), nobodys_key()
    assert one != other
    assert not good(Issuer().token(), one)


@pytest.mark.parametrize("path", ["/jwks", "/.well-known/openid-configuration"])
async def test_keys_are_had_from_where_they_are_or_from_the_issuer(path: str, server: Server) -> None:
    issuer, told = Issuer(), list[str]()
    server.serve(issuer)
    source = server.address + path
    async with keys(told) as found:
        await found.have({source: 5.0})
        assert good(issuer.token(), found.current[source])
        await found.have({source: 5.0})
        assert server.asked.count("/jwks") == 1  # once is enough
        await found.have({})
        assert not found.current
    assert not told


async def test_while_an_issuer_is_away_no_token_of_it_is_good_and_then_it_is(server: Server) -> None:
    issuer, told = Issuer(), list[str]()
    source = f"{server.address}/jwks"
    async with keys(told, SELDOM) as found:
        await found.have({source: 5.0})
        assert not good(issuer.token(), found.current[source])
        assert not await found.refresh()
        assert [words.startswith(f"the keys at {source} cannot be had (") for words in told] == [True]  # once
        server.serve(issuer)
        assert await found.refresh()
        assert good(issuer.token(), found.current[source])
        asked = len(server.asked)
        assert not await found.refresh()
        assert len(server.asked) == asked  # not due before long


async def test_another_key_is_found_and_kept_while_the_issuer_is_away(server: Server) -> None:
    old, new, told = Issuer(), Issuer(kid="k2"), list[str]()
    server.serve(old)
    source = f"{server.address}/jwks"
    async with keys(told) as found:
        await found.have({source: 5.0})
        assert not await found.refresh()
        server.serve(new)
        assert await found.refresh()
        assert (good(new.token(), found.current[source]), good(old.token(), found.current[source])) == (True, False)
        server.status = 503
        assert not await found.refresh()
        assert good(new.token(), found.current[source])
        assert len(told) == 1


async def test_who_comes_back_and_fails_again_is_told_again(server: Server) -> None:
    told, source = list[str](), f"{server.address}/jwks"
    async with keys(told) as found:
        for wanted in ({source: 5.0}, dict[str, float](), {source: 5.0}):
            await found.have(wanted)
    assert len(told) == 2


@pytest.mark.parametrize(
    "document",
    [
        b"", b"no JSON", b"[]", b'{"keys": [7]}', b'{"keys": [{"kty": "EC"}]}', b"\xff", b"[" * 5000,
        b'"' + b"x" * 2**21 + b'"',
    ],
    ids=lambda document: repr(document[:12]),
)  # fmt: skip
async def test_what_are_no_keys_changes_nothing(document: bytes, server: Server) -> None:
    issuer, told = Issuer(), list[str]()
    server.serve(issuer)
    source = f"{server.address}/jwks"
    async with keys(told) as found:
        await found.have({source: 5.0})
        server.documents["/jwks"] = document
        assert not await found.refresh()
        assert good(issuer.token(), found.current[source])
    assert len(told) == 1


@pytest.mark.parametrize("metadata", [b"{}", b"[]", b'{"jwks_uri": 7}', b'{"jwks_uri": "file:///etc/passwd"}'])
async def test_an_issuer_that_does_not_say_where_its_keys_are(metadata: bytes, server: Server) -> None:
    told: list[str] = []
    server.documents["/.well-known/openid-configuration"] = metadata
    async with keys(told) as found:
        await found.have(sources(rules(f'{{issuer: "{server.address}"}}')))
        (current,) = found.current.values()
        assert not good(Issuer().token(), current)
    assert len(told) == 1


async def test_one_that_fails_does_not_keep_the_others_away(server: Server) -> None:
    issuer, told = Issuer(), list[str]()
    server.serve(issuer)
    wanted: dict[str, Any] = {name: f"{server.address}/{name}" for name in ("jwks", "nowhere")}
    async with keys(told) as found:
        await found.have(dict.fromkeys(wanted.values(), 5.0))
        assert good(issuer.token(), found.current[wanted["jwks"]])
    assert len(told) == 1
