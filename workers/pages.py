"""What operators see of a worker over HTTP. Law: nothing here is secret, and nothing here changes or holds up anything.

`/metrics`: its numbers, as Prometheus reads them. `/healthz`: the process lives. `/readyz`: calls may come (503 while
not).
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from aiohttp import web

from protos.metrics.prometheus import exposed
from protos.metrics.snapshot import Snapshot
from workers.errors import StartError


def application(snapshot: Callable[[], Snapshot], ready: Callable[[], bool]) -> web.Application:
    """The pages. `snapshot` is called in a thread: to write what a hundred models have takes a while."""

    async def metrics(request: web.Request) -> web.Response:
        accept = ",".join(request.headers.getall("Accept", []))
        kind, body = await asyncio.to_thread(lambda: exposed(snapshot(), accept))
        return web.Response(body=body, headers={"Content-Type": kind})

    async def healthz(_request: web.Request) -> web.Response:
        return web.Response(text="ok\n")

    async def readyz(_request: web.Request) -> web.Response:
        takes_calls = ready()
        return web.Response(text="ready\n" if takes_calls else "not ready\n", status=200 if takes_calls else 503)

    app = web.Application()
    app.add_routes([web.get("/metrics", metrics), web.get("/healthz", healthz), web.get("/readyz", readyz)])
    return app


@asynccontextmanager
async def served(app: web.Application, listen: str) -> AsyncIterator[str]:
    """The pages at HOST:PORT while inside; the value has the port that was given where 0 was asked for.

    Raises StartError.
    """
    host, _, port = listen.rpartition(":")
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    try:
        try:
            await web.TCPSite(runner, host.strip("[]"), int(port)).start()
        except OSError as error:
            raise StartError(f"cannot listen on {listen} (metrics): {error.strerror}") from None
        yield f"{host}:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()
