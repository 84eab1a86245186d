"""The collector, put together: OTLP comes in, the store keeps, the query API answers. Law: nothing is left behind."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from typing import Final, TypeVar

from aiohttp import web

from headrace.traces.api import application
from headrace.traces.receiver import receiving
from headrace.traces.store import Store
from mesh.catalog import is_loopback

ANY: Final = "127.0.0.1:0"

T = TypeVar("T")


@dataclass(frozen=True)
class Collector:
    """One that runs: `url` is where to export to, `query` where to ask."""

    store: Store
    url: str
    query: str
    came: asyncio.Event = field(default_factory=asyncio.Event)

    async def until(self, look: Callable[[], T], enough: Callable[[T], bool], wait: float) -> T:
        """What a look at the store finds, as soon as it is enough, else what is there after `wait` seconds."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(wait):
                while not enough(look()):
                    self.came.clear()
                    await self.came.wait()
        return look()


@contextlib.asynccontextmanager
async def collecting(store: Store, otlp: str = ANY, query: str = ANY) -> AsyncIterator[Collector]:
    """Keep spans while inside; both addresses are HOST:PORT, with port 0 for one that is free. Raises OSError."""
    came = asyncio.Event()
    async with contextlib.AsyncExitStack() as stack:
        asked = await stack.enter_async_context(_answering(store, query))
        taken = await stack.enter_async_context(receiving(store, came.set, otlp))
        yield Collector(store, _url(otlp, taken), _url(query, asked), came)


@contextlib.asynccontextmanager
async def _answering(store: Store, address: str) -> AsyncIterator[int]:
    host, _, port = address.rpartition(":")
    app = application(store, time.time_ns, loopback=is_loopback(host))
    runner = web.AppRunner(app, access_log=None, handle_signals=False, shutdown_timeout=1)
    try:
        await runner.setup()
        await web.TCPSite(runner, host.strip("[]"), int(port)).start()
        yield runner.addresses[0][1]
    finally:
        await runner.cleanup()


def _url(address: str, port: int) -> str:
    return f"http://{address.rpartition(':')[0]}:{port}"
