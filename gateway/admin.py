"""What operators see over HTTP. Law: as `protos.pages`; and at `/config` the settings in use, without secrets."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from aiohttp import web

from gateway.readiness import Readiness
from gateway.settings import Settings
from protos import pages
from protos.fetch import shown as shown_url
from protos.metrics.snapshot import Snapshot


def application(
    settings: Callable[[], Settings], readiness: Readiness, numbers: Callable[[], Awaitable[Snapshot]] | None
) -> web.Application:
    """The admin pages; `settings` gives those in use, and `numbers` what is counted, None where nothing is."""

    async def config(_request: web.Request) -> web.Response:
        return web.Response(text=shown(settings()), content_type="application/json")

    app = pages.application(lambda: readiness.why_not, numbers)
    app.add_routes([web.get("/config", config)])
    return app


def shown(settings: Settings) -> str:
    """The settings as JSON, without secrets."""
    issuers = tuple(
        issuer.model_copy(update={"jwks": issuer.jwks and shown_url(issuer.jwks)}) for issuer in settings.issuers
    )
    return settings.model_copy(update={"issuers": issuers}).model_dump_json(indent=2) + "\n"
