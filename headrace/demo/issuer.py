"""The demo's token issuer. Law: its key lives and dies with the demo; only who can read the demo's state gets tokens.

It publishes what any issuer does (OpenID Connect Discovery 1.0, RFC 7517) and signs JWTs with ES256 (RFC 7519).
`POST /token` follows OAuth's client credentials grant (RFC 6749, section 4.4), with the demo's secret as the bearer.
"""

from __future__ import annotations

import contextlib
import hmac
import secrets
import time
import uuid
from collections.abc import AsyncIterator
from typing import Any, Final

import jwt
from aiohttp import web
from cryptography.hazmat.primitives.asymmetric import ec
from jwt.algorithms import ECAlgorithm

AUDIENCE: Final = "headrace"
ALGORITHM: Final = "ES256"
SUBJECT: Final = "demo"
SCOPE: Final = "infer:digits"
TTL: Final = 3600.0  # seconds
LONGEST: Final = 24 * 3600.0  # seconds


class Issuer:
    """An issuer with a key of its own; `url` is its name and address, `secret` what `POST /token` asks for."""

    def __init__(self) -> None:
        self.url = ""
        self.secret = secrets.token_urlsafe(32)
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._kid = uuid.uuid4().hex[:8]

    def token(self, subject: str = SUBJECT, scope: str = SCOPE, ttl: float = TTL) -> str:
        """A token for `ttl` seconds from now."""
        return sign(self._key, self._kid, self.url, subject, scope, issued=time.time(), ttl=ttl)

    def expired(self) -> str:
        """A token whose hour is over."""
        return sign(self._key, self._kid, self.url, SUBJECT, SCOPE, issued=time.time() - 2 * TTL, ttl=TTL)

    def forged(self) -> str:
        """A token in this issuer's name and under its key's id, signed with another key."""
        other = ec.generate_private_key(ec.SECP256R1())
        return sign(other, self._kid, self.url, SUBJECT, SCOPE, issued=time.time(), ttl=TTL)

    def jwks(self) -> dict[str, Any]:
        """The JWK Set that proves our tokens."""
        public = ECAlgorithm.to_jwk(self._key.public_key(), as_dict=True)
        return {"keys": [{**public, "kid": self._kid, "use": "sig", "alg": ALGORITHM}]}

    @contextlib.asynccontextmanager
    async def serving(self) -> AsyncIterator[Issuer]:
        """While inside, it answers at `url`, on a free port of the loopback."""
        app = web.Application()
        app.router.add_get("/.well-known/openid-configuration", self._discovery)
        app.router.add_get("/jwks.json", self._keys)
        app.router.add_post("/token", self._grant)
        runner = web.AppRunner(app, access_log=None, handle_signals=False, shutdown_timeout=1)
        await runner.setup()
        try:
            await web.TCPSite(runner, "127.0.0.1", 0).start()
            host, port = runner.addresses[0][:2]
            self.url = f"http://{host}:{port}"
            yield self
        finally:
            await runner.cleanup()

    async def _discovery(self, _request: web.Request) -> web.Response:
        return web.json_response(
            {
                "issuer": self.url,
                "jwks_uri": f"{self.url}/jwks.json",
                "token_endpoint": f"{self.url}/token",
                "grant_types_supported": ["client_credentials"],
                "id_token_signing_alg_values_supported": [ALGORITHM],
                "response_types_supported": ["token"],
                "subject_types_supported": ["public"],
            }
        )

    async def _keys(self, _request: web.Request) -> web.Response:
        return web.json_response(self.jwks())

    async def _grant(self, request: web.Request) -> web.Response:
        given = request.headers.get("authorization", "").removeprefix("Bearer ")
        if not hmac.compare_digest(given.encode(errors="surrogateescape"), self.secret.encode()):
            return web.json_response({"error": "invalid_client"}, status=401)
        form = await request.post()
        subject, scope = str(form.get("subject", SUBJECT)), str(form.get("scope", SCOPE))
        try:
            ttl = float(str(form.get("ttl", TTL)))
        except ValueError:
            ttl = 0.0
        if form.get("grant_type") != "client_credentials" or not 0 < ttl <= LONGEST:
            return web.json_response({"error": "invalid_request"}, status=400)
        token = self.token(subject, scope, ttl)
        return web.json_response(
            {"access_token": token, "token_type": "Bearer", "expires_in": int(ttl), "scope": scope}
        )


def sign(
    key: ec.EllipticCurvePrivateKey, kid: str, issuer: str, subject: str, scope: str, *, issued: float, ttl: float
) -> str:
    """A JWT valid for `ttl` seconds from `issued` (seconds since the epoch)."""
    claims = {
        "iss": issuer,
        "sub": subject,
        "aud": AUDIENCE,
        "scope": scope,
        "iat": int(issued),
        "exp": int(issued + ttl),
        "jti": uuid.uuid4().hex,
    }
    return jwt.encode(claims, key, algorithm=ALGORITHM, headers={"kid": kid})
