"""An issuer for tests: keys of every algorithm, JWK Sets, and tokens, good ones and broken ones."""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Callable, Mapping
from types import EllipsisType
from typing import Any

from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from jwt.api_jws import PyJWS

_CURVES: Mapping[str, ec.EllipticCurve] = {"ES256": ec.SECP256R1(), "ES384": ec.SECP384R1(), "ES512": ec.SECP521R1()}
ALGORITHMS = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512", *_CURVES, "EdDSA")

PrivateKey = ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey | rsa.RSAPrivateKey

_JWS = PyJWS()


def b64(data: bytes) -> str:
    """base64url without padding."""
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def private_key(algorithm: str, rsa_bits: int = 2048) -> PrivateKey:
    """A fresh private key that signs with the algorithm."""
    if algorithm in _CURVES:
        return ec.generate_private_key(_CURVES[algorithm])
    if algorithm == "EdDSA":
        return ed25519.Ed25519PrivateKey.generate()
    return rsa.generate_private_key(public_exponent=65537, key_size=rsa_bits)


def sign(algorithm: str, key: PrivateKey | bytes, header: bytes | str, payload: bytes | str) -> str:
    """The compact JWS of header and payload, which may be any bytes at all; `key` is what PyJWT signs with.

    A `str` is taken for an already encoded part.
    """
    parts = [part if isinstance(part, str) else b64(part) for part in (header, payload)]
    signer = _JWS.get_algorithm_by_name(algorithm)
    signature = signer.sign(".".join(parts).encode(), key)
    return ".".join([*parts, b64(signature)])


class Issuer:
    """One issuer with one key at a time.

    `scope` is what its tokens say unless told otherwise; `clock` the seconds since the epoch that `exp` counts from.
    """

    def __init__(
        self,
        name: str = "https://id.example/",
        algorithm: str = "ES256",
        *,
        kid: str | None = "k1",
        audience: str = "headrace",
        scope: str = "infer:digits",
        rsa_bits: int = 2048,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.name = name
        self.algorithm = algorithm
        self.kid = kid
        self.audience = audience
        self.scope = scope
        self.clock = clock
        self.private = private_key(algorithm, rsa_bits)

    def rotate(self, kid: str | None) -> None:
        """A new key, and no more of the old one."""
        self.kid = kid
        self.private = private_key(self.algorithm)

    def jwk(self, **changes: object) -> dict[str, Any]:
        """The public key as a JWK; a member that is changed to `...` is left out."""
        made = _JWS.get_algorithm_by_name(self.algorithm).to_jwk(self.private.public_key(), as_dict=True)
        return _merged({**made, "kid": self.kid if self.kid is not None else ..., "alg": self.algorithm}, changes)

    def jwks(self, *others: Issuer) -> bytes:
        """The JWK Set with this issuer's key and those of others."""
        return jwk_set(self.jwk(), *(other.jwk() for other in others))

    def claims(self, **overrides: object) -> dict[str, Any]:
        """Good claims; one that is overridden with `...` is left out."""
        now = int(self.clock())
        return _merged(
            {
                "iss": self.name,
                "aud": self.audience,
                "sub": "tester",
                "iat": now,
                "exp": now + 300,
                "scope": self.scope,
            },
            overrides,
        )

    def header(self, **overrides: object) -> dict[str, Any]:
        """A good header; a member that is overridden with `...` is left out."""
        kid: str | EllipsisType = self.kid if self.kid is not None else ...
        return _merged({"alg": self.algorithm, "typ": "JWT", "kid": kid}, overrides)

    def token(
        self,
        claims: Mapping[str, object] | None = None,
        header: Mapping[str, object] | None = None,
        **overrides: object,
    ) -> str:
        """A token: `claims` and `overrides` laid over good claims, `header` over a good header; `...` removes."""
        return self.signed(
            json.dumps(self.header(**(header or {}))).encode(),
            json.dumps(self.claims(**{**(claims or {}), **overrides})).encode(),
        )

    def signed(self, header: bytes | str, payload: bytes | str) -> str:
        """Any header and payload, signed with the issuer's key and algorithm whatever the header says."""
        return sign(self.algorithm, self.private, header, payload)

    def bearer(self, **overrides: object) -> tuple[tuple[str, str], ...]:
        """Metadata with a token."""
        return (("authorization", f"Bearer {self.token(overrides)}"),)


def jwk_set(*jwks: Mapping[str, object]) -> bytes:
    """The JWK Set of these keys."""
    return json.dumps({"keys": jwks}).encode()


def unsigned(header: Mapping[str, object], claims: Mapping[str, object], signature: str = "") -> str:
    """A token with any header and signature at all."""
    return ".".join([b64(json.dumps(header).encode()), b64(json.dumps(claims).encode()), signature])


def _merged(good: Mapping[str, object], changes: Mapping[str, object]) -> dict[str, Any]:
    return {name: value for name, value in {**good, **changes}.items() if value is not ...}
