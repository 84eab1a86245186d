"""Who calls: every way in which a token can be bad, and how long a good one is believed."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from typing import Any

import grpc
import pytest
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from gateway import verify
from gateway.caller import Caller
from gateway.keys import KeySet, parse_jwks
from gateway.verify import TrustedIssuer, Verifier, bearer
from protos.errors import HeadraceError, Reason
from tests.gateway.tokens import Issuer, b64, jwk_set, sign, unsigned

NOW = 1_800_000_000.0
LEEWAY = 30.0


class FixedKeys:
    """Keys that a test changes by hand; `upcoming` is what the next refresh brings."""

    def __init__(self, document: bytes | None) -> None:
        self.current = KeySet() if document is None else parse_jwks(document)
        self.upcoming: bytes | None = None
        self.refreshes = 0

    async def refresh(self) -> None:
        self.refreshes += 1
        if self.upcoming is not None:
            self.current = parse_jwks(self.upcoming)


class World:
    """One trusted issuer, its verifier, and a clock that a test moves."""

    def __init__(self, issuer: Issuer | None = None, algorithms: Iterable[str] = ("ES256",)) -> None:
        self.now = NOW
        self.issuer = issuer or Issuer(clock=lambda: self.now)
        self.issuer.clock = lambda: self.now
        self.keys = FixedKeys(self.issuer.jwks())
        self.trusted = TrustedIssuer(
            self.issuer.name, frozenset({"headrace", "headrace-test"}), frozenset(algorithms), LEEWAY, self.keys
        )
        self.verifier = Verifier([self.trusted], lambda: self.now)

    async def verify(self, token: str) -> Caller:
        return await self.verifier.verify([("other", "x"), ("authorization", f"Bearer {token}")])

    async def refused(self, token: str, reason: Reason = Reason.TOKEN_INVALID) -> HeadraceError:
        with pytest.raises(HeadraceError) as caught:
            await self.verify(token)
        assert (caught.value.reason, caught.value.status) == (reason, grpc.StatusCode.UNAUTHENTICATED)
        assert len(token) < 20 or token[-20:] not in str(caught.value)
        return caught.value


@pytest.fixture
def world() -> World:
    return World()


async def test_a_good_token(world: World) -> None:
    caller = await world.verify(world.issuer.token(scope="infer:digits", team="red"))
    assert (caller.issuer, caller.subject, caller.expires_at) == ("https://id.example/", "tester", NOW + 300)
    assert caller.claims["team"] == "red"
    assert world.keys.refreshes == 0


# ---- the metadata ----


@pytest.mark.parametrize(
    ("metadata", "reason"),
    [
        ([], Reason.TOKEN_MISSING),
        ([("x-authorization", "Bearer a.b.c")], Reason.TOKEN_MISSING),
        ([("authorization-bin", b"Bearer a.b.c")], Reason.TOKEN_MISSING),
        ([("authorization", "Bearer a.b.c"), ("authorization", "Bearer a.b.c")], Reason.TOKEN_INVALID),
        ([("authorization", "Bearer a.b.c"), ("authorization", "")], Reason.TOKEN_INVALID),
        ([("authorization", "")], Reason.TOKEN_INVALID),
        ([("authorization", "Bearer")], Reason.TOKEN_INVALID),
        ([("authorization", "Bearer ")], Reason.TOKEN_INVALID),
        ([("authorization", "a.b.c")], Reason.TOKEN_INVALID),
        ([("authorization", "Basic dXNlcjpwYXNz")], Reason.TOKEN_INVALID),
        ([("authorization", "BearerX a.b.c")], Reason.TOKEN_INVALID),
        ([("authorization", "Bearer\ta.b.c")], Reason.TOKEN_INVALID),
        ([("authorization", "Bearer " + "a" * (16 * 1024 + 1))], Reason.TOKEN_INVALID),
    ],
)
def test_metadata_without_one_bearer_token(metadata: list[tuple[str, str | bytes]], reason: Reason) -> None:
    with pytest.raises(HeadraceError) as caught:
        bearer(metadata)
    assert caught.value.reason is reason
    assert "dXNlcjpwYXNz" not in str(caught.value)


@pytest.mark.parametrize("value", ["Bearer a.b.c", "bearer a.b.c", "BEARER a.b.c", b"Bearer a.b.c"])
def test_the_scheme_is_read_in_any_case(value: str | bytes) -> None:
    assert bearer([("x", "y"), ("authorization", value)]) == "a.b.c"


def test_a_token_of_16_kib_is_not_too_long() -> None:
    assert len(bearer([("authorization", "Bearer " + "a" * 16 * 1024)])) == 16 * 1024


async def test_a_long_token_is_verified_up_to_16_kib(world: World) -> None:
    assert (await world.verify(world.issuer.token(pad="x" * 11_000))).subject == "tester"
    assert "too long" in (await world.refused(world.issuer.token(pad="x" * 13_000))).public


@pytest.mark.parametrize("junk", ["a.b.c", "x", " ", "a b", "é.é.é", "..", "a.b.c.d.e"])
async def test_junk(world: World, junk: str) -> None:
    await world.refused(junk)


async def test_bytes_that_are_no_ascii(world: World) -> None:
    with pytest.raises(HeadraceError) as caught:
        await world.verifier.verify([("authorization", b"Bearer \xff\xfe")])
    assert caught.value.reason is Reason.TOKEN_INVALID


# ---- time ----


@pytest.mark.parametrize("ahead", [1, 0, -1, -29.5])
async def test_exp_within_the_leeway(world: World, ahead: float) -> None:
    assert (await world.verify(world.issuer.token(exp=NOW + ahead))).expires_at == NOW + ahead


@pytest.mark.parametrize("ahead", [-30, -31, -NOW])
async def test_exp_past(world: World, ahead: float) -> None:
    await world.refused(world.issuer.token(exp=NOW + ahead), Reason.TOKEN_EXPIRED)


async def test_exp_missing(world: World) -> None:
    assert "no exp" in (await world.refused(world.issuer.token(exp=...))).public


@pytest.mark.parametrize("name", ["exp", "nbf", "iat"])
@pytest.mark.parametrize("value", [None, "1800000300", True, [], {}, -1, 1e15, 10**400])
async def test_times_that_are_none(world: World, name: str, value: object) -> None:
    assert "is no time" in (await world.refused(world.issuer.token({name: value}))).public


@pytest.mark.parametrize("number", ["1e400", "-1e400"])
async def test_a_number_without_end_is_no_time(world: World, number: str) -> None:
    payload = json.dumps(world.issuer.claims(exp="X")).replace('"X"', number).encode()
    assert "is no time" in (await world.refused(world.issuer.signed(_header(world), payload))).public


@pytest.mark.parametrize("name", ["nbf", "iat"])
async def test_a_time_that_lies_ahead(world: World, name: str) -> None:
    assert await world.verify(world.issuer.token({name: NOW + LEEWAY}))
    assert "lies ahead" in (await world.refused(world.issuer.token({name: NOW + LEEWAY + 1}))).public
    assert await world.verify(world.issuer.token({name: ...}))


async def test_a_token_comes_of_age(world: World) -> None:
    token = world.issuer.token(nbf=NOW + 60)
    await world.refused(token)
    world.now += 31
    assert await world.verify(token)


# ---- audience, issuer, subject ----


@pytest.mark.parametrize(
    "audience", ["headrace", "headrace-test", ["headrace"], ["other", "headrace"], [5, "headrace"]]
)
async def test_audiences(world: World, audience: object) -> None:
    assert await world.verify(world.issuer.token(aud=audience))


@pytest.mark.parametrize(
    "audience",
    [
        ...,
        None,
        "",
        "other",
        "headrace other",
        "Headrace",
        "headrac",
        [],
        ["other"],
        [["headrace"]],
        {"headrace": 1},
        5,
    ],
)
async def test_wrong_audiences(world: World, audience: object) -> None:
    assert "audience" in (await world.refused(world.issuer.token(aud=audience))).public


@pytest.mark.parametrize(
    "issuer",
    [..., None, "", "https://id.example", "https://ID.example/", "https://evil.example/", 5, ["https://id.example/"]],
)
async def test_unknown_issuers(world: World, issuer: object) -> None:
    error = await world.refused(world.issuer.token(iss=issuer))
    assert "is not trusted" in error.private
    assert "trusted" not in error.public
    assert world.keys.refreshes == 0  # nothing is fetched for strangers


@pytest.mark.parametrize("subject", [..., None, "", 5, ["tester"]])
async def test_no_subject(world: World, subject: object) -> None:
    assert "no sub" in (await world.refused(world.issuer.token(sub=subject))).public


@pytest.mark.parametrize("subject", ["s" * 255, "\u00e9" * 255])
async def test_a_subject_has_255_characters_at_most(world: World, subject: str) -> None:
    assert (await world.verify(world.issuer.token(sub=subject))).subject == subject
    assert "too long" in (await world.refused(world.issuer.token(sub=subject + "s"))).public


async def test_an_issuers_key_signs_for_that_issuer_alone() -> None:
    one, other = World(), World(Issuer("https://other.example/"))
    both = Verifier([one.trusted, other.trusted], lambda: NOW)

    async def subject_of(token: str) -> str:
        return (await both.verify([("authorization", f"Bearer {token}")])).issuer

    assert await subject_of(one.issuer.token()) == one.issuer.name
    assert await subject_of(other.issuer.token()) == other.issuer.name
    with pytest.raises(HeadraceError):
        await subject_of(other.issuer.token(iss=one.issuer.name))


# ---- algorithm and signature ----


async def test_an_algorithm_that_the_issuer_is_not_trusted_with() -> None:
    world = World(Issuer(algorithm="ES384"), algorithms=("ES256", "RS256"))
    assert "not allowed" in (await world.refused(world.issuer.token())).private
    assert await World(world.issuer, algorithms=("ES384",)).verify(world.issuer.token())


@pytest.mark.parametrize("alg", ["none", "None", "nOnE", "HS256", "HS512"])
async def test_alg_none_and_hmac(world: World, alg: str) -> None:
    header = {"alg": alg, "typ": "JWT", "kid": "k1"}
    for signature in ("", b64(bytes(64))):
        await world.refused(unsigned(header, world.issuer.claims(), signature))


async def test_the_public_key_is_no_hmac_secret(world: World) -> None:
    public = world.issuer.private.public_key()
    header, payload = b'{"alg":"HS256","kid":"k1"}', json.dumps(world.issuer.claims()).encode()
    for secret in (
        public.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo),
        public.public_bytes(Encoding.X962, PublicFormat.UncompressedPoint),
        json.dumps(world.issuer.jwk()).encode(),
    ):
        await world.refused(sign("HS256", secret, header, payload))


async def test_tampering(world: World) -> None:
    good = world.issuer.token()
    assert await world.verify(good)
    head, payload, signature = good.split(".")
    without_kid = b64(json.dumps(world.issuer.header(kid=...)).encode())
    root = b64(json.dumps(world.issuer.claims(sub="root")).encode())
    for bad in (
        f"{head}.{root}.{signature}",
        f"{head}.{payload}.",
        f"{head}.{payload}.{signature[::-1]}",
        f"{head}.{payload}.{b64(bytes(64))}",
        f"{without_kid}.{payload}.{signature}",
    ):
        await world.refused(bad)


async def test_a_jwe(world: World) -> None:
    header = b64(b'{"alg":"RSA-OAEP","enc":"A256GCM"}')
    assert (await world.refused(f"{header}.AA.AA.AA.AA")).private == "a JWE"


@pytest.mark.parametrize("header", [{"crit": ["exp"]}, {"b64": False, "crit": ["b64"]}, {"b64": True}])
async def test_crit_and_b64(world: World, header: dict[str, object]) -> None:
    await world.refused(world.issuer.token(header=header))


def _header(world: World) -> bytes:
    return json.dumps(world.issuer.header()).encode()


async def test_members_that_occur_twice(world: World) -> None:
    claims = json.dumps(world.issuer.claims())
    assert await world.verify(world.issuer.signed(_header(world), claims.encode()))
    for twice in ('{"sub":"root",' + claims[1:], claims[:-1] + ',"sub":"root"}', claims[:-1] + ',"exp":9999999999}'):
        await world.refused(world.issuer.signed(_header(world), twice.encode()))


@pytest.mark.parametrize("payload", [b"", b"[]", b'"x"', b"{", b"\xff"])
async def test_payloads_that_are_no_claims(world: World, payload: bytes) -> None:
    await world.refused(world.issuer.signed(_header(world), payload))


# ---- keys ----


async def test_an_unknown_kid_asks_once_for_newer_keys(world: World) -> None:
    world.issuer.rotate("k2")
    world.keys.upcoming = world.issuer.jwks()
    assert (await world.verify(world.issuer.token())).subject == "tester"
    assert world.keys.refreshes == 1
    assert await world.verify(world.issuer.token(sub="another"))
    assert world.keys.refreshes == 1


async def test_an_unknown_kid_that_stays_unknown(world: World) -> None:
    stranger = Issuer(kid="k9", clock=lambda: NOW)
    assert "no key of the issuer" in (await world.refused(stranger.token())).private
    assert world.keys.refreshes == 1


async def test_newer_keys_without_the_kid(world: World) -> None:
    stranger, newer = Issuer(kid="k9", clock=lambda: NOW), Issuer(kid="k2")
    world.keys.upcoming = world.issuer.jwks(newer)
    assert "no key of the issuer" in (await world.refused(stranger.token())).private


async def test_a_bad_signature_under_a_known_kid_fetches_nothing(world: World) -> None:
    forged = Issuer(kid="k1", clock=lambda: NOW)
    assert (await world.refused(forged.token())).private == "the signature is wrong"
    assert world.keys.refreshes == 0


async def test_without_kid_every_key_is_tried(world: World) -> None:
    unnamed = Issuer(kid=None, clock=lambda: NOW)
    world.keys.current = parse_jwks(world.issuer.jwks(unnamed))
    assert await world.verify(unnamed.token())
    assert await world.verify(world.issuer.token(header={"kid": ...}))
    await world.refused(Issuer(kid=None, clock=lambda: NOW).token())
    assert world.keys.refreshes == 1


async def test_no_keys_at_all(world: World) -> None:
    world.keys.current = KeySet()
    with pytest.raises(HeadraceError) as caught:
        await world.verify(world.issuer.token())
    assert (caught.value.status, caught.value.reason) == (grpc.StatusCode.UNAVAILABLE, Reason.KEYS_UNAVAILABLE)
    assert caught.value.retry_after is not None
    world.keys.upcoming = world.issuer.jwks()
    assert await world.verify(world.issuer.token())


# ---- what is kept ----


async def test_a_verified_token_is_kept(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    token = world.issuer.token()
    first = await world.verify(token)
    parsed = _counted(monkeypatch, "parse")
    assert await world.verify(token) is first
    assert parsed == []
    assert await world.verify(world.issuer.token(sub="another")) is not first
    assert len(parsed) == 1


async def test_a_bad_token_is_not_kept(world: World) -> None:
    token = world.issuer.token(nbf=NOW + 60)
    await world.refused(token)
    await world.refused(token)


async def test_a_removed_key_takes_its_tokens_with_it(world: World) -> None:
    old = world.issuer.token()
    assert await world.verify(old)
    world.issuer.rotate("k2")
    world.keys.current = parse_jwks(world.issuer.jwks())
    assert await world.verify(world.issuer.token())
    await world.refused(old)


async def test_a_key_that_stays_keeps_its_tokens(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    old = world.issuer.token()
    assert await world.verify(old)
    world.keys.current = parse_jwks(world.issuer.jwks(Issuer(kid="k2")))
    parsed = _counted(monkeypatch, "parse")
    assert await world.verify(old)
    assert parsed == []


async def test_a_key_that_is_no_longer_for_the_algorithm_takes_its_tokens_with_it() -> None:
    world = World(Issuer(algorithm="RS256"), algorithms=("RS256",))
    token = world.issuer.token()
    assert await world.verify(token)
    world.keys.current = parse_jwks(jwk_set(world.issuer.jwk(alg="PS256")))
    await world.refused(token)


async def test_a_kept_token_ends_with_its_exp(world: World) -> None:
    token = world.issuer.token(exp=NOW + 10)
    assert await world.verify(token)
    world.now += 39.9
    assert await world.verify(token)
    world.now += 0.2
    await world.refused(token, Reason.TOKEN_EXPIRED)


async def test_what_is_kept_is_bounded(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(verify, "_KEPT_TOKENS", 3)
    tokens = [world.issuer.token(sub=f"s{number}") for number in range(5)]
    for token in tokens:
        assert await world.verify(token)
    assert len(world.verifier._verified) == 3
    parsed = _counted(monkeypatch, "parse")
    assert await world.verify(tokens[4])
    assert parsed == []
    assert await world.verify(tokens[0])
    assert len(parsed) == 1


async def test_no_token_is_kept_in_the_clear(world: World) -> None:
    token = world.issuer.token()
    caller = await world.verify(token)
    signature = token.rsplit(".", 1)[1]
    kept = repr(world.verifier._verified) + repr(vars(world.verifier)) + repr(caller)
    assert "tester" in kept
    assert signature not in kept


def _counted(monkeypatch: pytest.MonkeyPatch, name: str) -> list[Any]:
    """The calls to a function of `gateway.verify` from now on."""
    calls: list[Any] = []
    real: Callable[..., Any] = getattr(verify, name)

    def counting(*arguments: Any) -> Any:
        calls.append(arguments)
        return real(*arguments)

    monkeypatch.setattr(verify, name, counting)
    return calls
