"""Who calls: from metadata to a `Caller`. Law: keys, algorithms and audiences come from configuration alone.

A token names its issuer; everything else about how it is checked is what configuration says of that issuer. Verified
tokens are kept, by digest, but never past `exp` nor past the removal of the key that signed them (RFC 7519, RFC 8725).
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Final, Literal, Protocol

import grpc

from gateway.caller import Caller
from gateway.jws import BadToken, Jws, json_object, parse
from gateway.keys import Key, KeySet
from protos.errors import HeadraceError, Reason

_MAX_TOKEN: Final = 16 * 1024  # characters; metadata of a call is bounded by gRPC anyway
_MAX_SUBJECT: Final = 255  # characters, as OpenID Connect Core 1.0, section 2, bounds it
_KEPT_TOKENS: Final = 16_384

Result = Literal["cached", "verified", "refused"]
"""What became of a token: it was known from before, found good, or neither."""


class Keys(Protocol):
    """Where an issuer's keys come from."""

    @property
    def current(self) -> KeySet:
        """The keys as last known; empty before they were first had."""

    @property
    def age(self) -> float:
        """Seconds since they were last fetched well, or since the start."""

    async def refresh(self) -> None:
        """Ask for the keys anew, unless they were asked for a moment ago; returns when they are here, or not."""


@dataclass(frozen=True)
class TrustedIssuer:
    """What configuration says of one issuer; `leeway` in seconds."""

    issuer: str
    audiences: frozenset[str]
    algorithms: frozenset[str]
    leeway: float
    keys: Keys


@dataclass(frozen=True, slots=True)
class _Verified:
    caller: Caller
    key: Key
    among: KeySet  # the keys of which it was one


class Verifier:
    """Verifies tokens of the trusted issuers; `now` is the wall clock in seconds since the epoch.

    `results` counts what became of them.
    """

    def __init__(self, issuers: Iterable[TrustedIssuer], now: Callable[[], float]) -> None:
        self.results: Counter[Result] = Counter()
        self._issuers = {trusted.issuer: trusted for trusted in issuers}
        self._now = now
        self._verified: dict[bytes, _Verified] = {}

    async def verify(self, metadata: Iterable[tuple[str, str | bytes]]) -> Caller:
        """The caller that the metadata's bearer token proves. Raises HeadraceError UNAUTHENTICATED."""
        try:
            caller, result = await self._found(metadata)
        except HeadraceError:
            self.results["refused"] += 1
            raise
        self.results[result] += 1
        return caller

    async def _found(self, metadata: Iterable[tuple[str, str | bytes]]) -> tuple[Caller, Result]:
        token = bearer(metadata)
        digest = hashlib.sha256(token.encode()).digest()
        known = self._verified.get(digest)
        if known is not None:
            trusted = self._issuers[known.caller.issuer]
            current = trusted.keys.current
            if current is known.among or known.key in current:
                _check_expiry(known.caller.expires_at, trusted.leeway, self._now())
                return known.caller, "cached"
            del self._verified[digest]
        verified = await self._verify(token)
        while len(self._verified) >= _KEPT_TOKENS:
            del self._verified[next(iter(self._verified))]
        self._verified[digest] = verified
        return verified.caller, "verified"

    def left(self, caller: Caller) -> float:
        """Seconds until the caller's token is good no more, its issuer's leeway included."""
        return caller.expires_at + self._issuers[caller.issuer].leeway - self._now()

    async def _verify(self, token: str) -> _Verified:
        try:
            jws = parse(token)
            trusted = self._issuer_of(jws)
            key = await _signer(jws, trusted.keys)
            caller = check_claims(json_object(jws.payload), trusted, self._now())
            return _Verified(caller, key, trusted.keys.current)
        except BadToken as error:
            raise _invalid("the token is not valid", private=str(error)) from None

    def _issuer_of(self, jws: Jws) -> TrustedIssuer:
        """The issuer that the token claims, if trusted with the token's algorithm."""
        claimed = json_object(jws.payload).get("iss")
        trusted = self._issuers.get(claimed) if isinstance(claimed, str) else None
        if trusted is None:
            raise BadToken(f"issuer {claimed!r} is not trusted")
        if jws.algorithm not in trusted.algorithms:
            raise BadToken(f"{jws.algorithm} is not allowed for {trusted.issuer}")
        return trusted


def bearer(metadata: Iterable[tuple[str, str | bytes]]) -> str:
    """The one bearer token of the metadata (RFC 6750). Raises HeadraceError TOKEN_MISSING or TOKEN_INVALID."""
    values = [value for key, value in metadata if key == "authorization"]
    if not values:
        raise HeadraceError(
            grpc.StatusCode.UNAUTHENTICATED, Reason.TOKEN_MISSING, "send a token: authorization: Bearer TOKEN"
        )
    if len(values) > 1:
        raise _invalid("authorization is sent more than once")
    value = values[0]
    scheme, _, token = (value if isinstance(value, str) else value.decode("ascii", "replace")).partition(" ")
    if scheme.lower() != "bearer" or not token:
        raise _invalid("authorization must be: Bearer TOKEN")
    if len(token) > _MAX_TOKEN:
        raise _invalid("the token is too long")
    return token


def check_claims(claims: Mapping[str, object], trusted: TrustedIssuer, now: float) -> Caller:
    """The caller that the verified claims speak of. Raises HeadraceError TOKEN_EXPIRED or TOKEN_INVALID.

    `exp` is required; `nbf` and `iat`, where present, must not lie ahead; `aud` must share a member with ours.
    """
    expires_at = _time(claims, "exp")
    if expires_at is None:
        raise _invalid("the token has no exp")
    _check_expiry(expires_at, trusted.leeway, now)
    for name in ("nbf", "iat"):
        begins = _time(claims, name)
        if begins is not None and begins > now + trusted.leeway:
            raise _invalid(f"the token's {name} lies ahead")
    audience = claims.get("aud")
    named = audience if isinstance(audience, list) else [audience]
    if not any(isinstance(member, str) and member in trusted.audiences for member in named):
        raise _invalid("the token is for another audience")
    subject = claims.get("sub")
    if not isinstance(subject, str) or not 0 < len(subject) <= _MAX_SUBJECT:
        raise _invalid("the token has no sub, or too long a one")
    return Caller(trusted.issuer, subject, claims, expires_at)


def _check_expiry(expires_at: float, leeway: float, now: float) -> None:
    if now >= expires_at + leeway:
        raise HeadraceError(grpc.StatusCode.UNAUTHENTICATED, Reason.TOKEN_EXPIRED, "the token has expired")


def _time(claims: Mapping[str, object], name: str) -> float | None:
    value = claims.get(name)
    if name not in claims:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < 1e15:
        raise _invalid(f"the token's {name} is no time")
    return float(value)


async def _signer(jws: Jws, keys: Keys) -> Key:
    """The key that signed; where none of those at hand did, the issuer is asked once for newer ones."""
    key = _find(jws, keys.current)
    if key is not None:
        return key
    before = keys.current
    if jws.kid is not None and any(key.kid == jws.kid for key in before.keys):
        raise BadToken("the signature is wrong")
    await keys.refresh()
    if not keys.current.keys:
        raise HeadraceError(
            grpc.StatusCode.UNAVAILABLE,
            Reason.KEYS_UNAVAILABLE,
            "the issuer's keys cannot be had at present",
            retry_after=1.0,
        )
    key = _find(jws, keys.current) if keys.current is not before else None
    if key is None:
        raise BadToken("no key of the issuer made the signature")
    return key


def _find(jws: Jws, keys: KeySet) -> Key | None:
    return next((key for key in keys.candidates(jws) if key.verifies(jws)), None)


def _invalid(public: str, *, private: str = "") -> HeadraceError:
    return HeadraceError(grpc.StatusCode.UNAUTHENTICATED, Reason.TOKEN_INVALID, public, private=private)
