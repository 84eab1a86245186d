"""What looks like a secret cannot be read afterwards, wherever in a text it stands; and the rest can."""

from __future__ import annotations

import base64
import json
import string
import time

import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from hypothesis import given
from hypothesis import strategies as st

from protos.redacted import redacted

KEY = ec.generate_private_key(ec.SECP256R1())
PEM = KEY.private_bytes(
    serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
).decode()
TOKEN = jwt.encode({"sub": "alice", "iss": "https://issuer.example"}, KEY, "ES256")

secrets = st.text(string.ascii_letters + string.digits + "-_~+", min_size=12, max_size=40).map(
    lambda text: f"Zq9{text}"
)
words = st.text(st.characters(exclude_categories=["Cs"]), max_size=30).filter(lambda text: "Zq9" not in text)


def _base64url(text: str) -> str:
    return base64.urlsafe_b64encode(text.encode()).rstrip(b"=").decode()


def token(header: str, secret: str) -> str:
    return f"{_base64url(header)}.{_base64url(json.dumps({'sub': 'somebody'}))}.{secret}"


SHAPES = {
    "a header": "authorization: Bearer {}",
    "a header in capitals": "AUTHORIZATION: BEARER {}",
    "another scheme": "authorization: Basic {}",
    "no scheme": "proxy-authorization={}",
    "a mapping": "{{'authorization': 'Bearer {}'}}",
    "JSON": '{{"authorization":"{}"}}',
    "JSON in JSON": '{{\\"authorization\\": \\"Basic {}\\"}}',
    "metadata": "(('x-a', 'b'), ('authorization', 'Basic {}'))",
    "metadata as gRPC shows it": "_Metadatum(key='authorization', value='Basic {}')",
    "bytes": "(b'authorization', b'Bearer {}')",
    "a bearer alone": "the caller sent Bearer {} and went",
    "a list": "{{'authorization': ['Bearer {0}', 'Basic {0}']}}",
    "a list in JSON": '{{"x-api-key":["{0}","{0}"],"x":1}}',
    "a list and more": "password=['a', ['b]'], [\"{0}\"]]{0} ok",
    "a list without an end": "password=[a, {}",
    "a form": "grant_type=password&client_secret={}&x=y",
    "a password": "password={}",
    "a cookie": "Cookie: session={}",
    "an API key": "x-api-key: {}",
    "a user of a URL": "https://{}@host/path",
    "a password of a URL": "connect to amqps://user:{}@host:5671/ failed",
    "a password with an at": "https://user:p@{}@host/path",
    "a query": "GET https://host/keys?sig={} is refused",
    "a fragment": "https://host/callback#access={}",
    "a private key": "-----BEGIN EC PRIVATE KEY-----\n{}\n-----END EC PRIVATE KEY-----\nafter",
    "a private key in small letters": "-----begin private key-----\n{}\n-----end private key-----",
    "a private key cut short": "-----BEGIN PRIVATE KEY-----\\n{}",
}


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
@given(before=words, secret=secrets, after=words)
def test_a_secret_is_gone(shape: str, before: str, secret: str, after: str) -> None:
    text = f"{before} {shape.format(secret)} {after}"
    assert secret not in redacted(text)
    assert "Zq9" not in redacted(text)
    assert redacted(redacted(text)) == redacted(text)


@given(
    before=words, header=st.sampled_from(['{"alg":"RS256"}', '{ "alg": "RS256"}', '{\n"alg":"RS256"}']), secret=secrets
)
def test_a_token_is_gone_wherever_it_stands(before: str, header: str, secret: str) -> None:
    assert "Zq9" not in redacted(f"{before} {token(header, secret.translate({0x7E: '-', 0x2B: '_'}))}")


@given(st.integers(20, len(TOKEN)), words)
def test_of_a_token_cut_short_nothing_is_left(length: int, before: str) -> None:
    cut = TOKEN[:length]
    assert cut[:20] not in redacted(f"{before} {cut}")
    assert cut[-8:] not in redacted(f"{before} {cut}")


@given(words.filter(lambda user: ":" not in user), secrets, st.sampled_from(["Basic {}", "basic '{}'", "BASIC\t{}!"]))
def test_a_user_and_a_password_are_gone(user: str, password: str, shape: str) -> None:
    for encode in (base64.b64encode, base64.urlsafe_b64encode):
        word = encode(f"{user}:{password}".encode()).decode()
        assert word[-12:].rstrip("=") not in redacted(f"sent {shape.format(word)}")


def test_real_ones() -> None:
    told = redacted(f"key {PEM} signs {TOKEN}: no")
    assert told == "key [redacted private key]\n signs [redacted]: no"


PLAIN = [
    "model digits is loaded",
    "admin pages on http://127.0.0.1:9090",
    "keys of https://issuer.example/realms/one: a, b",
    "Bearer token is missing",
    "send a token: Bearer TOKEN",
    "a basic A100 or T4 with basic TensorRT support",
    "Basic Authentication is not what we take, nor basic auth",
    "eyeball.example.com and eyes",
    "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----",
    "the secretary asks: who may? nobody",
    "file:///etc/headrace/headrace.yaml",
]


@pytest.mark.parametrize("text", PLAIN)
def test_the_rest_stays(text: str) -> None:
    assert redacted(text) == text


HOSTILE = [
    "a",
    "eyJ",
    "eyA",
    "://",
    "password=",
    "-----BEGIN ",
    "-----BEGIN PRIVATE KEY-----",
    "bearer ",
    "basic a",
    "authorization:[",
    "authorization",
]
HOSTILE += ['"\\', "e-", "eyJaaaaaaaa.", "authorization: '\\", "cookie\\", "authorization   "]


@pytest.mark.parametrize("part", HOSTILE)
def test_time_grows_with_the_text_alone(part: str) -> None:
    """Of a pattern that looks again and again this would be minutes."""
    begun = time.perf_counter()
    redacted(part * (300_000 // len(part)))
    assert time.perf_counter() - begun < 5
