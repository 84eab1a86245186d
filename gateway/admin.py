"""What operators see over HTTP. Law: nothing here is secret, and nothing here changes anything.

`/healthz`: the process lives. `/readyz`: calls may come (503 while not, and why). `/config`: the settings in use.
`/metrics`: what is counted, in the form that whoever asks likes best (`protos.metrics.prometheus`).
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from aiohttp import web

from gateway.readiness import Readiness
from gateway.settings import Settings
from protos.fetch import shown as shown_url
from protos.metrics.prometheus import exposed
from protos.metrics.snapshot import Snapshot


def application(
    settings: Callable[[], Settings], readiness: Readiness, numbers: Callable[[], Awaitable[Snapshot]] | None
) -> web.Application:
    """The admin pages; `settings` gives those in use, and `numbers` what is counted, None where nothing is."""

    async def healthz(_request: web.Request) -> web.Response:
        return web.Response(text="ok\n")

    async def readyz(_request: web.Request) -> web.Response:
        why_not = readiness.why_not
        return web.Response(text=f"not ready: {why_not}\n" if why_not else "ready\n", status=503 if why_not else 200)

    async def config(_request: web.Request) -> web.Response:
        return web.Response(text=shown(settings()), content_type="application/json")

    app = web.Application()
    app.add_routes([web.get("/healthz", healthz), web.get("/readyz", readyz), web.get("/config", config)])
    if numbers is not None:
        app.add_routes([web.get("/metrics", _metrics(numbers))])
    return app


def _metrics(numbers: Callable[[], Awaitable[Snapshot]]) -> Callable[[web.Request], Awaitable[web.Response]]:
    async def metrics(request: web.Request) -> web.Response:
        accept = ",".join(request.headers.getall("Accept", ()))
        kind, text = await asyncio.to_thread(exposed, await numbers(), accept)  # there may be much to write
        return web.Response(body=text, headers={"Content-Type": kind})

    return metrics


def shown(settings: Settings) -> str:
    """The settings as JSON, without secrets."""
    issuers = tuple(
        issuer.model_copy(update={"jwks": issuer.jwks and shown_url(issuer.jwks)}) for issuer in settings.issuers
    )
    return settings.model_copy(update={"issuers": issuers}).model_dump_json(indent=2) + "\n"
