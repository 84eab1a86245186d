"""The demo's token issuer. Law: its key lives and dies with the demo; only who can read the demo's state gets tokens.

It publishes what any issuer does (OpenID Connect Discovery 1.0, RFC 7517) and signs JWTs with ES256 (RFC 7519).
`POST /token` follows OAuth's client credentials grant (RFC 6749, section 4.4), with the demo's secret as the bearer.
"""

from __future__ import annotations

import contextlib
import hmac
import secrets
import time
from collections.abc import AsyncIterator
from typing import Any, Final

from aiohttp import web

from headrace import signing
from headrace.signing import ALGORITHM

AUDIENCE: Final = "headrace"
SUBJECT: Final = "demo"
SCOPE: Final = "infer:digits"
TTL: Final = 3600.0  # seconds
LONGEST: Final = 24 * 3600.0  # seconds


class Issuer:
    """An issuer with a key of its own; `url` is its name and address, `secret` what `POST /token` asks for."""

    def __init__(self) -> None:
        self.url = ""
        self.secret = secrets.token_urlsafe(32)
        self._key = signing.new()

    def token(self, subject: str = SUBJECT, scope: str = SCOPE, ttl: float = TTL) -> str:
        """A token for `ttl` seconds from now."""
        return self._signed(subject, scope, issued=time.time(), ttl=ttl)

    def expired(self) -> str:
        """A token whose hour is over."""
        return self._signed(issued=time.time() - 2 * TTL)

    def forged(self) -> str:
        """A token in this issuer's name and under its key's id, signed with another key."""
        whole, others = self._signed(issued=time.time()), signing.new().sign({}, issued=time.time(), ttl=TTL)
        return ".".join((*whole.split(".")[:2], others.split(".")[2]))

    def jwks(self) -> dict[str, Any]:
        """The JWK Set that proves our tokens."""
        return self._key.jwks

    def _signed(self, subject: str = SUBJECT, scope: str = SCOPE, *, issued: float, ttl: float = TTL) -> str:
        """A JWT valid for `ttl` seconds from `issued` (seconds since the epoch)."""
        claims = {"iss": self.url, "sub": subject, "aud": AUDIENCE, "scope": scope}
        return self._key.sign(claims, issued=issued, ttl=ttl)

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
