"""What a process of ours shows operators over HTTP. Law: nothing here is secret, nor changes or holds up anything.

`/healthz`: the process lives. `/readyz`: calls may come (503 while not, and why). `/metrics`: what is counted, in the
form that whoever asks likes best (`protos.metrics.prometheus`).
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

from aiohttp import web

from protos.metrics.prometheus import exposed
from protos.metrics.snapshot import Snapshot


def application(why_not: Callable[[], str], numbers: Callable[[], Awaitable[Snapshot]] | None) -> web.Application:
    """The pages; `why_not` tells why calls may not come, and nothing where they may.

    Without `numbers` nothing is counted, and there is no `/metrics`.
    """

    async def healthz(_request: web.Request) -> web.Response:
        return web.Response(text="ok\n")

    async def readyz(_request: web.Request) -> web.Response:
        why = why_not()
        return web.Response(text=f"not ready: {why}\n" if why else "ready\n", status=503 if why else 200)

    app = web.Application()
    app.add_routes([web.get("/healthz", healthz), web.get("/readyz", readyz)])
    if numbers is not None:
        app.add_routes([web.get("/metrics", _metrics(numbers))])
    return app


def _metrics(numbers: Callable[[], Awaitable[Snapshot]]) -> Callable[[web.Request], Awaitable[web.Response]]:
    async def metrics(request: web.Request) -> web.Response:
        accept = ",".join(request.headers.getall("Accept", ()))
        kind, body = await asyncio.to_thread(exposed, await numbers(), accept)  # there may be much to write
        return web.Response(body=body, headers={"Content-Type": kind})

    return metrics


@asynccontextmanager
async def served(app: web.Application, listen: str) -> AsyncIterator[str]:
    """The pages at HOST:PORT while inside; the value has the port that was given where 0 was asked for.

    Raises OSError, at the beginning alone.
    """
    host, _, port = listen.rpartition(":")
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    try:
        await web.TCPSite(runner, host.strip("[]"), int(port)).start()
        yield f"{host}:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()
