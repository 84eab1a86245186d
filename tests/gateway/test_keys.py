"""JWK Sets: which keys count, and for which algorithms."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jwt.algorithms import get_default_algorithms

from gateway.jws import parse
from gateway.keys import KeySet, parse_jwk, parse_jwks
from tests.gateway.tokens import Issuer, jwk_set, private_key, sign

_RSA = {"RS256", "RS384", "RS512", "PS256", "PS384", "PS512"}


@pytest.fixture(scope="module")
def rsa() -> Issuer:
    return Issuer(algorithm="RS256", kid="rsa")


@pytest.fixture(scope="module")
def ec() -> Issuer:
    return Issuer(algorithm="ES256", kid="ec")


@pytest.mark.parametrize(
    ("algorithm", "without_alg"),
    [("ES256", {"ES256"}), ("ES384", {"ES384"}), ("ES512", {"ES512"}), ("EdDSA", {"EdDSA"}), ("RS256", _RSA)],
)
def test_a_key_is_for_what_its_kind_and_its_words_allow(algorithm: str, without_alg: set[str]) -> None:
    issuer = Issuer(algorithm=algorithm)
    said, unsaid = parse_jwk(issuer.jwk()), parse_jwk(issuer.jwk(alg=...))
    assert said is not None
    assert unsaid is not None
    assert said.algorithms == {algorithm}
    assert unsaid.algorithms == without_alg


@pytest.mark.parametrize("signed_with", sorted(_RSA))
def test_an_rsa_key_that_says_nothing_verifies_every_rsa_algorithm(rsa: Issuer, signed_with: str) -> None:
    token = sign(signed_with, rsa.private, json.dumps({"alg": signed_with}).encode(), b"{}")
    open_key, bound_key = parse_jwk(rsa.jwk(alg=...)), parse_jwk(rsa.jwk())
    assert open_key is not None
    assert bound_key is not None
    assert open_key.verifies(parse(token))
    candidates = list(KeySet((bound_key,)).candidates(parse(token)))
    assert bool(candidates) == (signed_with == "RS256")


@pytest.mark.parametrize(
    "changes",
    [
        {"use": "enc"},
        {"use": ["sig"]},
        {"use": None},
        {"key_ops": ["encrypt"]},
        {"key_ops": []},
        {"key_ops": "verify"},
        {"key_ops": None},
        {"d": "AQAB"},
        {"kty": "oct"},
        {"kty": ...},
        {"kty": "EC"},
        {"kty": []},
        {"alg": "HS256"},
        {"alg": "ES256"},
        {"alg": "RSA-OAEP"},
        {"alg": "none"},
        {"alg": 5},
        {"alg": []},
        {"n": ...},
        {"n": ""},
        {"n": 5},
        {"n": None},
        {"n": "!!!"},
        {"e": ...},
        {"e": "AA"},
        {"e": "AQ"},
        {"e": "Ag"},
        {"e": []},
    ],
    ids=str,
)
def test_keys_that_we_do_not_use(rsa: Issuer, changes: dict[str, Any]) -> None:
    assert parse_jwk(rsa.jwk()) is not None
    assert parse_jwk(rsa.jwk(**changes)) is None


@pytest.mark.parametrize(
    "changes",
    [
        {"crv": "secp256k1"},
        {"crv": "P-384"},
        {"crv": "Ed25519"},
        {"crv": "X25519"},
        {"crv": ...},
        {"crv": []},
        {"kty": "OKP"},
        {"kty": "RSA"},
        {"alg": "ES384"},
        {"x": "AA"},
        {"x": ...},
        {"y": 7},
    ],
    ids=str,
)
def test_elliptic_keys_that_we_do_not_use(ec: Issuer, changes: dict[str, Any]) -> None:
    assert parse_jwk(ec.jwk()) is not None
    assert parse_jwk(ec.jwk(**changes)) is None


@pytest.mark.parametrize("algorithm", ["RS256", "ES256", "EdDSA"])
def test_a_private_key_in_the_set_is_left_out(algorithm: str) -> None:
    """Whoever publishes one has lost it."""
    issuer = Issuer(algorithm=algorithm)
    private = get_default_algorithms()[algorithm].to_jwk(issuer.private, as_dict=True)
    private.pop("key_ops", None)
    assert "d" in private
    assert parse_jwk(private) is None
    public = {name: value for name, value in private.items() if name not in ("d", "p", "q", "dp", "dq", "qi")}
    assert parse_jwk(public) is not None


def test_a_point_off_the_curve_is_no_key(ec: Issuer) -> None:
    jwk = ec.jwk()
    assert parse_jwk({**jwk, "x": jwk["y"], "y": jwk["x"]}) is None


def test_short_rsa_keys_are_left_out() -> None:
    assert parse_jwk(Issuer(algorithm="RS256", rsa_bits=1024).jwk()) is None
    assert parse_jwk(Issuer(algorithm="RS256", rsa_bits=2047).jwk()) is None
    assert parse_jwk(Issuer(algorithm="RS256", rsa_bits=2048).jwk()) is not None


def test_words_that_say_the_usual_do_no_harm(ec: Issuer) -> None:
    assert parse_jwk(ec.jwk(use="sig", key_ops=["verify"], x5c=["MII"], alg="ES256")) is not None
    assert parse_jwk(ec.jwk(use=..., key_ops=..., alg=...)) is not None


def test_a_kid_that_is_no_string_names_nothing(ec: Issuer) -> None:
    key = parse_jwk(ec.jwk(kid=5))
    assert key is not None
    assert key.kid is None


def test_one_odd_key_does_not_take_an_issuer_down(rsa: Issuer, ec: Issuer) -> None:
    odd = [rsa.jwk(use="enc"), {"kty": "oct", "k": "c2VjcmV0"}, {}, {"kty": "LATTICE"}, ec.jwk(x="")]
    document = json.dumps({"keys": [*odd, None, 5, "key", [], ec.jwk()], "more": 1}).encode()
    assert [key.kid for key in parse_jwks(document).keys] == ["ec"]


@pytest.mark.parametrize(
    ("document", "what"),
    [
        (b"", "not JSON"),
        (b"<html>", "not JSON"),
        (b"[]", "no JSON object"),
        (b"{}", "no keys"),
        (b'{"keys":{}}', "no keys"),
        (b'{"keys":null}', "no keys"),
        (b'{"keys":[]}', "no key that we could use"),
        (b'{"keys":[{"kty":"oct","k":"c2VjcmV0"}]}', "no key that we could use"),
        (b'{"keys":[],"keys":[]}', "occurs twice"),
        (b"\xff", "not JSON"),
    ],
)
def test_documents_that_are_no_jwk_set(document: bytes, what: str) -> None:
    with pytest.raises(ValueError, match=what):
        parse_jwks(document)


def test_candidates_are_of_the_tokens_kid(ec: Issuer) -> None:
    other = Issuer(kid="other")
    unnamed = Issuer(kid=None)
    keys = parse_jwks(ec.jwks(other, unnamed))
    assert [key.kid for key in keys.candidates(parse(ec.token()))] == ["ec"]
    assert [key.kid for key in keys.candidates(parse(unnamed.token()))] == ["ec", "other", None]
    assert list(keys.candidates(parse(ec.token(header={"kid": "new"})))) == []


def test_keys_are_the_same_by_what_they_are(ec: Issuer) -> None:
    one, same = parse_jwks(ec.jwks()), parse_jwks(ec.jwks())
    assert one == same
    assert same.keys[0] in one
    for changes in ({"kid": "ec2"}, {"alg": ...}):
        assert parse_jwks(jwk_set(ec.jwk(**changes))).keys[0] not in one
    assert parse_jwks(Issuer(kid="ec").jwks()).keys[0] not in one


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=12),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=4,
)


@settings(max_examples=100, deadline=None)
@given(
    st.sampled_from(["RS256", "ES256", "EdDSA"]),
    st.dictionaries(st.sampled_from(["kty", "crv", "x", "y", "n", "e", "alg", "use", "kid", "key_ops", "oth"]), _JSON),
)
def test_whatever_a_jwk_holds_nothing_is_raised(algorithm: str, changes: dict[str, Any]) -> None:
    key = parse_jwk({**_GOOD[algorithm], **changes})
    assert key is None or key.algorithms


_GOOD = {name: Issuer(algorithm=name).jwk() for name in ("RS256", "ES256", "EdDSA")}


def test_a_private_key_signs_and_only_its_public_one_verifies(rsa: Issuer) -> None:
    other = private_key("RS256")
    token = sign("RS256", other, json.dumps(rsa.header()).encode(), b"{}")
    (key,) = parse_jwks(rsa.jwks()).keys
    assert not key.verifies(parse(token))
    assert key.verifies(parse(rsa.signed(json.dumps(rsa.header()).encode(), b"{}")))
