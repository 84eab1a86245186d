"""RequestAuthentication: which tokens a workload believes. Law: a token must be good, but need not be there."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Annotated, Final
from urllib.parse import urlsplit

from pydantic import AfterValidator

from mesh.istio.headers import HEADER_NAME
from mesh.istio.message import Message, Mistake, Unimplemented
from mesh.istio.selector import WorkloadSelector
from mesh.istio.values import Bool, PositiveDuration, Text

_KEY_PARTS: Final = {"RSA": ("n", "e"), "EC": ("crv", "x", "y"), "OKP": ("crv", "x"), "oct": ("k",)}


def check_jwks(value: str) -> str:
    """A JSON Web Key Set (RFC 7517), or the empty text."""
    if not value:
        return value
    try:
        document = json.loads(value)
    except (ValueError, RecursionError):
        raise ValueError("is no JSON") from None
    keys = document.get("keys", [document]) if isinstance(document, dict) else None
    if not isinstance(keys, list) or not all(isinstance(key, dict) for key in keys):
        raise ValueError("is no set of keys, as RFC 7517 has it")
    for key in keys:
        parts = _KEY_PARTS.get(str(key.get("kty")))
        if parts is None or not all(isinstance(key.get(part), str) for part in parts):
            raise ValueError(f"holds a key that is none (kid {key.get('kid')!r})")
    return value


def _jwks_uri(value: str) -> str:
    if value and urlsplit(value).scheme not in ("http", "https"):
        raise ValueError(f"{value!r} is neither an http nor an https address")
    return value


def _header(value: str) -> str:
    if HEADER_NAME.fullmatch(value) is None:
        raise ValueError(f"{value!r} is no header's name")
    return value


class JWTHeader(Message):
    """A header that may hold the token, after `prefix`."""

    name: Text
    prefix: str = ""


class ClaimToHeader(Message):
    """A claim of a good token, passed on as a header."""

    header: Annotated[str, AfterValidator(_header)]
    claim: Text


class JWTRule(Message):
    """An issuer whose tokens are believed. `jwks` wins over `jwks_uri`; with neither, the issuer is asked."""

    issuer: str = ""
    audiences: tuple[Text, ...] = ()
    jwks_uri: Annotated[str, AfterValidator(_jwks_uri)] = ""
    jwks: Annotated[str, AfterValidator(check_jwks)] = ""
    from_headers: tuple[JWTHeader, ...] = ()
    from_params: tuple[Text, ...] = ()
    from_cookies: tuple[Text, ...] = ()
    output_payload_to_header: str = ""
    output_claim_to_headers: tuple[ClaimToHeader, ...] = ()
    forward_original_token: Bool = False
    timeout: PositiveDuration | None = None
    space_delimited_claims: tuple[str, ...] = ()

    def mistakes(self) -> Iterator[Mistake]:
        """A rule that believes no one."""
        if not self.issuer and not self.jwks_uri:
            yield ("issuer",), "is missing: set issuer or jwksUri"


class RequestAuthentication(Message):
    """`security.istio.io` RequestAuthentication."""

    selector: WorkloadSelector | None = None
    jwt_rules: tuple[JWTRule, ...] = ()
    targetRef: Unimplemented = None  # noqa: N815 - its proto name
    targetRefs: Unimplemented = None  # noqa: N815 - its proto name
