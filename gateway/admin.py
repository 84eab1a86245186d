"""What operators see over HTTP. Law: nothing here is secret, and nothing here changes anything.

`/healthz`: the process lives. `/readyz`: calls may come (503 while not). `/config`: the settings in use.
"""

from __future__ import annotations

from collections.abc import Callable

from aiohttp import web

from gateway.readiness import Readiness
from gateway.settings import Settings
from protos.fetch import shown as shown_url


def application(settings: Callable[[], Settings], readiness: Readiness) -> web.Application:
    """The admin pages; `settings` gives those in use."""

    async def healthz(_request: web.Request) -> web.Response:
        return web.Response(text="ok\n")

    async def readyz(_request: web.Request) -> web.Response:
        ready = readiness.ready
        return web.Response(text="ready\n" if ready else "not ready\n", status=200 if ready else 503)

    async def config(_request: web.Request) -> web.Response:
        return web.Response(text=shown(settings()), content_type="application/json")

    app = web.Application()
    app.add_routes([web.get("/healthz", healthz), web.get("/readyz", readyz), web.get("/config", config)])
    return app


def shown(settings: Settings) -> str:
    """The settings as JSON, without secrets."""
    issuers = tuple(
        issuer.model_copy(update={"jwks": issuer.jwks and shown_url(issuer.jwks)}) for issuer in settings.issuers
    )
    return settings.model_copy(update={"issuers": issuers}).model_dump_json(indent=2) + "\n"
