"""Keys of an issuer's own, and tokens by them. Law: a key is told by its thumbprint, wherever it is read.

Keys are of P-256 and sign ES256 (RFC 7518, section 3.4); `kid` is the JWK's thumbprint (RFC 7638).
"""

from __future__ import annotations

import base64
import hashlib
import json
import uuid
from dataclasses import dataclass
from typing import Any, Final

import jwt
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from jwt.algorithms import ECAlgorithm

from headrace.failure import CommandError

ALGORITHM: Final = "ES256"


@dataclass(frozen=True)
class Key:
    """A private key."""

    private: ec.EllipticCurvePrivateKey

    @property
    def jwk(self) -> dict[str, Any]:
        """The public half, as a JWK Set has it (RFC 7517)."""
        public = ECAlgorithm.to_jwk(self.private.public_key(), as_dict=True)
        named = json.dumps({name: public[name] for name in ("crv", "kty", "x", "y")}, separators=(",", ":"))
        kid = base64.urlsafe_b64encode(hashlib.sha256(named.encode()).digest()).rstrip(b"=").decode()
        return {**public, "kid": kid, "use": "sig", "alg": ALGORITHM}

    @property
    def jwks(self) -> dict[str, Any]:
        """The JWK Set that proves its tokens."""
        return {"keys": [self.jwk]}

    @property
    def pem(self) -> bytes:
        """The private key, unencrypted, for a file that nobody else may read."""
        return self.private.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )

    def sign(self, claims: dict[str, Any], *, issued: float, ttl: float) -> str:
        """A JWT with these claims (RFC 7519), valid for `ttl` seconds from `issued` (seconds since the epoch)."""
        times = {"iat": int(issued), "exp": int(issued + ttl), "jti": uuid.uuid4().hex}
        return jwt.encode(claims | times, self.private, algorithm=ALGORITHM, headers={"kid": self.jwk["kid"]})


def new() -> Key:
    """A key that nobody else has."""
    return Key(ec.generate_private_key(ec.SECP256R1()))


def read(pem: bytes, where: str) -> Key:
    """The key of a PEM file. Raises CommandError."""
    try:
        found = serialization.load_pem_private_key(pem, None)
    except (ValueError, TypeError):
        raise CommandError(f"{where} is no private key in PEM, without a password") from None
    if not isinstance(found, ec.EllipticCurvePrivateKey) or not isinstance(found.curve, ec.SECP256R1):
        raise CommandError(f"{where} is no key of P-256: make one with headrace token keys")
    return Key(found)
