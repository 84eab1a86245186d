"""Keys of one's own, and tokens by them, as the commands give them."""

from __future__ import annotations

import json
from pathlib import Path

import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from headrace import signing
from headrace.failure import CommandError
from tests.headrace.called import headrace

ME = ("token", "--key", "me.pem", "--issuer", "https://me.example/", "--subject", "me")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    done = headrace("token", "keys", "me", folder=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    return tmp_path


def test_a_token_is_proved_by_the_published_key(folder: Path) -> None:
    done = headrace(*ME, "--scope", "infer:digits", "--ttl", "5m", folder=folder)
    assert (done.returncode, done.stderr) == (0, "")
    token = done.stdout.strip()
    keys = jwt.PyJWKSet.from_dict(json.loads((folder / "me.jwks.json").read_text()))
    key = keys[jwt.get_unverified_header(token)["kid"]]
    claims = jwt.decode(token, key, algorithms=["ES256"], audience="headrace", issuer="https://me.example/")
    assert (claims["sub"], claims["scope"], claims["exp"] - claims["iat"]) == ("me", "infer:digits", 300)


def test_the_private_key_is_its_owners_alone_and_is_not_overwritten(folder: Path) -> None:
    private = folder / "me.pem"
    assert private.stat().st_mode & 0o777 == 0o600
    before = private.read_bytes()
    done = headrace("token", "keys", "me", folder=folder)
    assert (done.returncode, done.stdout) == (1, "")
    assert "me.pem is there already" in done.stderr
    assert private.read_bytes() == before
    assert "d" not in json.loads((folder / "me.jwks.json").read_text())["keys"][0]


def test_a_folder_that_is_not_there_is_said(tmp_path: Path) -> None:
    done = headrace("token", "keys", "no/me", folder=tmp_path)
    assert (done.returncode, done.stderr) == (1, "headrace: no/me.pem cannot be written: No such file or directory\n")


def pem(key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey, password: bytes | None = None) -> bytes:
    encryption = serialization.BestAvailableEncryption(password) if password else serialization.NoEncryption()
    return key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, encryption)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"no key", "no private key in PEM"),
        (pem(ec.generate_private_key(ec.SECP256R1()), b"secret"), "without a password"),
        (pem(ec.generate_private_key(ec.SECP384R1())), "no key of P-256"),
        (pem(rsa.generate_private_key(65537, 2048)), "no key of P-256"),
    ],
)
def test_another_key_is_refused(content: bytes, said: str) -> None:
    with pytest.raises(CommandError, match=said):
        signing.read(content, "me.pem")


def test_a_key_is_told_by_its_thumbprint(folder: Path) -> None:
    """RFC 7638, section 3.1."""
    key = signing.read((folder / "me.pem").read_bytes(), "me.pem")
    assert key.jwks == json.loads((folder / "me.jwks.json").read_text())
    assert key.jwk["kid"] != signing.new().jwk["kid"]


def test_a_key_and_an_issuer_go_together(folder: Path) -> None:
    for arguments in (("--key", "me.pem"), ("--issuer", "https://me.example/")):
        done = headrace("token", *arguments, folder=folder)
        assert done.returncode == 2
        assert "--key and --issuer go together" in done.stderr
