"""JSON Web Signatures, read strictly. Law: nothing of a token is believed before its signature is verified.

RFC 7515 compact serialisation. Refused, whatever a library would say: padding, blanks and loose bits in base64url
(RFC 4648 section 3.5), members that occur twice (RFC 7515 section 4), `crit` and `b64` (RFC 7797), five parts (JWE),
and, by not being in `ALGORITHMS`, `none` and every HMAC.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from jwt.algorithms import Algorithm, ECAlgorithm, OKPAlgorithm, RSAAlgorithm, RSAPSSAlgorithm

ALGORITHMS: Final[Mapping[str, Algorithm]] = {
    "RS256": RSAAlgorithm(RSAAlgorithm.SHA256),
    "RS384": RSAAlgorithm(RSAAlgorithm.SHA384),
    "RS512": RSAAlgorithm(RSAAlgorithm.SHA512),
    "PS256": RSAPSSAlgorithm(RSAPSSAlgorithm.SHA256),
    "PS384": RSAPSSAlgorithm(RSAPSSAlgorithm.SHA384),
    "PS512": RSAPSSAlgorithm(RSAPSSAlgorithm.SHA512),
    "ES256": ECAlgorithm(ECAlgorithm.SHA256),
    "ES384": ECAlgorithm(ECAlgorithm.SHA384),
    "ES512": ECAlgorithm(ECAlgorithm.SHA512),
    "EdDSA": OKPAlgorithm(),
}
_BASE64URL = re.compile(rb"[A-Za-z0-9_-]*")


class BadToken(Exception):  # noqa: N818 - it is the token that is bad
    """The token is not one we accept; the text is for our logs."""


@dataclass(frozen=True, slots=True)
class Jws:
    """A token taken apart and not yet believed. `payload` is the raw claims, `signed` what the signature covers."""

    algorithm: str
    kid: str | None
    payload: bytes
    signed: bytes
    signature: bytes


def parse(token: str) -> Jws:
    """The parts of a compact JWS. Raises BadToken."""
    try:
        parts = token.encode("ascii").split(b".")
    except UnicodeEncodeError:
        raise BadToken("not ASCII") from None
    if len(parts) != 3:
        raise BadToken("a JWE" if len(parts) == 5 else "not three parts")
    header = json_object(_decode(parts[0]))
    algorithm, kid = header.get("alg"), header.get("kid")
    if not isinstance(algorithm, str) or algorithm not in ALGORITHMS:
        raise BadToken(f"alg {algorithm!r}")
    if "crit" in header or "b64" in header:
        raise BadToken("crit or b64 in the header")
    if kid is not None and not isinstance(kid, str):
        raise BadToken("kid is no string")
    return Jws(algorithm, kid, _decode(parts[1]), parts[0] + b"." + parts[1], _decode(parts[2]))


def json_object(data: bytes) -> dict[str, Any]:
    """A JSON object in which no member occurs twice. Raises BadToken."""
    try:
        value = json.loads(data.decode(), object_pairs_hook=_once, parse_constant=_no_constant)
    except (ValueError, RecursionError):
        raise BadToken("not JSON") from None
    if not isinstance(value, dict):
        raise BadToken("no JSON object")
    return value


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) != len(pairs):
        raise BadToken("a member occurs twice")
    return made


def _no_constant(name: str) -> float:
    raise BadToken(f"{name} is no JSON")


def _decode(part: bytes) -> bytes:
    if _BASE64URL.fullmatch(part) is None or len(part) % 4 == 1:
        raise BadToken("not base64url")
    data = base64.urlsafe_b64decode(part + b"=" * (-len(part) % 4))
    if base64.urlsafe_b64encode(data).rstrip(b"=") != part:
        raise BadToken("loose bits in base64url")
    return data
