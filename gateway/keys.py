"""An issuer's public keys. Law: a key signs with the algorithms its kind and its own words allow, and no other.

RFC 7517 (JWK), RFC 7518 section 6, RFC 8037. Keys that we would not use (symmetric, private, for encryption, too
short, of an unknown curve) are left out of the set, so that one odd key does not take an issuer down.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final

from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from jwt.algorithms import Algorithm
from jwt.exceptions import PyJWTError

from gateway.jws import ALGORITHMS, BadToken, Jws, json_object

_BY_CURVE: Final = {"P-256": "ES256", "P-384": "ES384", "P-521": "ES512", "Ed25519": "EdDSA"}
_RSA: Final = frozenset({"RS256", "RS384", "RS512", "PS256", "PS384", "PS512"})
_MIN_RSA_BITS: Final = 2048


@dataclass(frozen=True, slots=True)
class Key:
    """One public key: `thumbprint` tells it from every other (RFC 7638's members and `kid`)."""

    kid: str | None
    algorithms: frozenset[str]
    thumbprint: str
    public: Any  # cryptography's key object, as PyJWT's algorithms take it

    def verifies(self, jws: Jws) -> bool:
        """Whether this key made the signature."""
        algorithm: Algorithm = ALGORITHMS[jws.algorithm]
        return algorithm.verify(jws.signed, self.public, jws.signature)


@dataclass(frozen=True)
class KeySet:
    """An issuer's keys at one time."""

    keys: tuple[Key, ...] = ()

    @cached_property
    def thumbprints(self) -> tuple[str, ...]:
        """What tells it from every other."""
        return tuple(sorted(key.thumbprint for key in self.keys))

    def __contains__(self, key: Key) -> bool:
        return any(key.thumbprint == other.thumbprint for other in self.keys)

    def candidates(self, jws: Jws) -> Iterator[Key]:
        """The keys that may have signed: of the token's `kid` if it names one, and fit for its algorithm."""
        for key in self.keys:
            if jws.algorithm in key.algorithms and (jws.kid is None or key.kid == jws.kid):
                yield key


def parse_jwks(document: bytes) -> KeySet:
    """The usable keys of a JWK Set. Raises ValueError when the document is none or has no usable key."""
    try:
        members = json_object(document).get("keys")
    except BadToken as error:
        raise ValueError(f"not a JWK Set: {error}") from None
    if not isinstance(members, list):
        raise ValueError("not a JWK Set: no keys")
    keys = tuple(key for member in members if isinstance(member, dict) and (key := parse_jwk(member)) is not None)
    if not keys:
        raise ValueError("the JWK Set holds no key that we could use")
    return KeySet(keys)


def parse_jwk(jwk: dict[str, Any]) -> Key | None:
    """The key, or None where it is not a public one for signatures that we would use."""
    algorithms = _algorithms(jwk)
    if not algorithms or "d" in jwk or jwk.get("use", "sig") != "sig":
        return None
    operations = jwk.get("key_ops", ["verify"])
    if not isinstance(operations, list) or "verify" not in operations:
        return None
    try:
        public = ALGORITHMS[min(algorithms)].from_jwk(jwk)
    except (PyJWTError, ValueError, TypeError, KeyError):
        return None
    if isinstance(public, RSAPublicKey) and public.key_size < _MIN_RSA_BITS:
        return None
    kid = jwk.get("kid")
    return Key(kid if isinstance(kid, str) else None, algorithms, _thumbprint(jwk), public)


def _algorithms(jwk: dict[str, Any]) -> frozenset[str]:
    kind, curve = jwk.get("kty"), jwk.get("crv")
    if kind == "RSA":
        fit = _RSA
    elif kind in ("EC", "OKP") and isinstance(curve, str) and curve in _BY_CURVE:
        fit = frozenset({_BY_CURVE[curve]})
    else:
        return frozenset()
    named = jwk.get("alg")
    return fit if named is None else fit & {named} if isinstance(named, str) else frozenset()


def _thumbprint(jwk: dict[str, Any]) -> str:
    members = {name: jwk.get(name) for name in ("kty", "crv", "x", "y", "n", "e", "kid", "alg")}
    return hashlib.sha256(json.dumps(members, sort_keys=True).encode()).hexdigest()
