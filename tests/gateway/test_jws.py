"""Tokens taken apart, and every JSON Web Signature vector of Wycheproof."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.jws import ALGORITHMS, BadToken, json_object, parse
from gateway.keys import KeySet, parse_jwk
from tests.gateway import tokens
from tests.gateway.tokens import Issuer, b64, unsigned

_VECTORS = Path(__file__).parent / "vectors" / "wycheproof" / "json_web_signature_test.json"

_HMAC = "symmetric: every verifier could sign"
_OTHER_ALGORITHM = "the key says it is for PS256, the token is signed with PS384"
_NO_ALGORITHM = "the key says it is for ES521, which is no algorithm"
REFUSED_ON_PURPOSE = {
    1: _HMAC,
    346: _OTHER_ALGORITHM,
    347: _NO_ALGORITHM,
    348: _HMAC,
    350: _OTHER_ALGORITHM,
    351: _NO_ALGORITHM,
    352: _HMAC,
    357: _HMAC,
    358: _HMAC,
    359: _HMAC,
    372: "not base64url, whatever lax readers make of it",
    373: _HMAC,
    376: _HMAC,
    377: _HMAC,
}
"""The valid vectors that we refuse, by tcId."""


def _vectors() -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
    for group in json.loads(_VECTORS.read_text())["testGroups"]:
        for vector in group["tests"]:
            yield group.get("public") or group["private"], vector


def _verified(jwk: dict[str, Any], token: str) -> bool:
    """Whether the gateway believes the token; nothing but BadToken may be raised."""
    key = parse_jwk(jwk)
    try:
        jws = parse(token)
    except BadToken:
        return False
    keys = KeySet(() if key is None else (key,))
    return any(candidate.verifies(jws) for candidate in keys.candidates(jws))


@pytest.mark.parametrize(("jwk", "vector"), [pytest.param(*pair, id=str(pair[1]["tcId"])) for pair in _vectors()])
def test_wycheproof(jwk: dict[str, Any], vector: dict[str, Any]) -> None:
    good = vector["result"] == "valid" and vector["tcId"] not in REFUSED_ON_PURPOSE
    assert _verified(jwk, vector["jws"]) == good, vector["comment"]


def test_all_of_wycheproof_is_there_and_much_of_it_is_verified() -> None:
    results = {vector["tcId"]: vector["result"] for _, vector in _vectors()}
    assert len(results) == 401 == json.loads(_VECTORS.read_text())["numberOfTests"]
    assert all(results[number] == "valid" for number in REFUSED_ON_PURPOSE)
    assert sum(result == "valid" for result in results.values()) - len(REFUSED_ON_PURPOSE) == 32


@pytest.mark.parametrize("number", [346, 347, 350, 351])
def test_what_is_refused_for_the_keys_words_is_soundly_signed(number: int) -> None:
    """Without the key's `alg`, the same vector is verified: it is that word alone that we heed."""
    jwk, vector = next(pair for pair in _vectors() if pair[1]["tcId"] == number)
    assert _verified({name: value for name, value in jwk.items() if name != "alg"}, vector["jws"])


# ---- the header ----


def test_a_token_is_taken_apart() -> None:
    issuer = Issuer()
    jws = parse(issuer.token())
    assert (jws.algorithm, jws.kid) == ("ES256", "k1")
    assert json.loads(jws.payload) == issuer.claims(
        exp=json.loads(jws.payload)["exp"], iat=json.loads(jws.payload)["iat"]
    )
    assert b".".join([jws.signed, b64(jws.signature).encode()]).decode().count(".") == 2


def test_a_token_without_kid() -> None:
    assert parse(Issuer(kid=None).token()).kid is None


@pytest.mark.parametrize("algorithm", tokens.ALGORITHMS)
def test_every_algorithm(algorithm: str) -> None:
    issuer = Issuer(algorithm=algorithm)
    token = issuer.token()
    assert _verified(issuer.jwk(), token)
    assert not _verified(Issuer(algorithm=algorithm).jwk(), token)
    head, payload, signature = token.split(".")
    other = b64(json.dumps(issuer.claims(sub="root")).encode())
    assert not _verified(issuer.jwk(), f"{head}.{other}.{signature}")
    assert not _verified(issuer.jwk(), f"{head}.{payload}.")


def test_the_algorithms_are_asymmetric() -> None:
    assert set(ALGORITHMS) == set(tokens.ALGORITHMS)


@pytest.mark.parametrize(
    "alg", ["none", "None", "NONE", "", "HS256", "HS384", "HS512", "ES256K", "es256", None, 5, [], {}]
)
def test_other_algorithms_are_refused(alg: object) -> None:
    with pytest.raises(BadToken, match="alg"):
        parse(unsigned({"alg": alg, "kid": "k1"}, {}, b64(bytes(64))))
    assert parse(unsigned({"alg": "ES256", "kid": "k1"}, {}, b64(bytes(64)))).algorithm == "ES256"


def test_a_header_without_alg() -> None:
    with pytest.raises(BadToken, match="alg None"):
        parse(unsigned({"kid": "k1"}, {}))


@pytest.mark.parametrize(
    ("header", "what"),
    [
        ({"crit": ["exp"], "exp": 1}, "crit"),
        ({"crit": []}, "crit"),
        ({"crit": None}, "crit"),
        ({"b64": False, "crit": ["b64"]}, "crit or b64"),
        ({"b64": True}, "b64"),
        ({"kid": 1}, "kid"),
        ({"kid": ["k1"]}, "kid"),
        ({"kid": {}}, "kid"),
    ],
)
def test_headers_that_are_refused(header: dict[str, object], what: str) -> None:
    issuer = Issuer()
    assert parse(issuer.token(header={"x": 1}))
    with pytest.raises(BadToken, match=what):
        parse(issuer.token(header=header))


def test_keys_in_the_header_are_not_looked_at() -> None:
    """RFC 8725 section 3.10: jwk, jku, x5u and x5c are the attacker's words."""
    issuer, attacker = Issuer(), Issuer()
    header = {"jwk": attacker.jwk(), "jku": "https://evil.example/jwks", "x5u": "https://evil.example/x5u"}
    assert _verified(issuer.jwk(), issuer.token(header=header))
    assert not _verified(issuer.jwk(), attacker.token(header=header))


@pytest.mark.parametrize("parts", [0, 1, 2, 4, 5, 6])
def test_the_number_of_parts(parts: int) -> None:
    with pytest.raises(BadToken, match="a JWE" if parts == 5 else "not three parts"):
        parse(".".join(["e30"] * parts))


def test_json_serialisation_is_refused() -> None:
    head, payload, signature = Issuer().token().split(".")
    with pytest.raises(BadToken):
        parse(json.dumps({"protected": head, "payload": payload, "signature": signature}))


# ---- base64url ----


def _with_part(token: str, place: int, change: Any) -> str:
    parts = token.split(".")
    parts[place] = change(parts[place])
    return ".".join(parts)


@pytest.mark.parametrize("place", [0, 1, 2])
@pytest.mark.parametrize(
    ("change", "what"),
    [
        (lambda part: part + "=", "not base64url"),
        (lambda part: part + "==", "not base64url"),
        (lambda part: " " + part, "not base64url"),
        (lambda part: part + "\n", "not base64url"),
        (lambda part: part[:8] + "?" + part[8:], "not base64url"),
        (lambda part: part[:8] + "+" + part[9:], "not base64url"),
        (lambda part: part[:8] + "/" + part[9:], "not base64url"),
        (lambda part: part[:5], "not base64url"),
        (lambda part: part[:8] + "é", "not ASCII"),
    ],
)
def test_base64url_is_strict(place: int, change: Any, what: str) -> None:
    token = Issuer().token()
    assert parse(token)
    with pytest.raises(BadToken, match=what):
        parse(_with_part(token, place, change))


def test_loose_bits() -> None:
    head = b64(b'{"alg":"ES256"}')
    assert parse(f"{head}.e30.QQ").signature == b"A"
    for loose in ("QR", "QS", "Qf"):  # the same byte, for a lax reader
        with pytest.raises(BadToken, match="loose bits"):
            parse(f"{head}.e30.{loose}")
    with pytest.raises(BadToken, match="loose bits"):
        parse(f"{head}.e30.QUJ")  # of two bytes


@given(st.text(max_size=60))
def test_nothing_but_bad_token_is_raised(text: str) -> None:
    with pytest.raises(BadToken):
        parse(text)


@given(st.binary(max_size=40), st.binary(max_size=40), st.binary(max_size=40))
def test_nor_for_what_is_base64url(header: bytes, payload: bytes, signature: bytes) -> None:
    with pytest.raises(BadToken):
        parse(".".join(map(b64, (header, payload, signature))))


# ---- JSON ----


@pytest.mark.parametrize(
    ("text", "what"),
    [
        (b'{"a":1,"a":1}', "occurs twice"),
        (b'{"a":1,"\\u0061":2}', "occurs twice"),
        (b'{"a":{"b":1,"b":2}}', "occurs twice"),
        (b'{"a":[{"b":1,"b":2}]}', "occurs twice"),
        (b'{"a":NaN}', "NaN"),
        (b'{"a":Infinity}', "Infinity"),
        (b'{"a":-Infinity}', "-Infinity"),
        (b"[]", "no JSON object"),
        (b'"a"', "no JSON object"),
        (b"null", "no JSON object"),
        (b"", "not JSON"),
        (b"{", "not JSON"),
        (b"{} {}", "not JSON"),
        (b'{"a":1,}', "not JSON"),
        (b"{'a':1}", "not JSON"),
        (b'{"a":"\n"}', "not JSON"),
        (b'\xef\xbb\xbf{"a":1}', "not JSON"),
        (b'{"a":"\xff"}', "not JSON"),
        (b"\xff\xfe{\x00}\x00", "not JSON"),
        (b"[" * 100_000, "not JSON"),
        (b'{"a":' * 100_000, "not JSON"),
        (b'{"a":' + b"9" * 5000 + b"}", "not JSON"),
    ],
)
def test_what_is_no_json_object(text: bytes, what: str) -> None:
    with pytest.raises(BadToken, match=what):
        json_object(text)


def test_json_objects() -> None:
    assert json_object(b"{}") == {}
    assert json_object(b' {"a": {"b": 1}, "c": {"b": 1}} ') == {"a": {"b": 1}, "c": {"b": 1}}


def test_a_member_twice_in_the_header() -> None:
    issuer = Issuer()
    payload = json.dumps(issuer.claims()).encode()
    assert _verified(issuer.jwk(), issuer.signed(b'{"alg":"ES256","kid":"k1"}', payload))
    for header in (
        b'{"alg":"ES256","alg":"ES256"}',
        b'{"alg":"none","alg":"ES256"}',
        b'{"alg":"ES256","kid":"k1","kid":"k1"}',
    ):
        with pytest.raises(BadToken, match="occurs twice"):
            parse(issuer.signed(header, payload))
