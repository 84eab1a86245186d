"""All that the gateway has counted, as one. Law: one process asks all others; what does not answer holds up nobody."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Final

from gateway.settings import Telemetry
from protos import dropped
from protos.dropped import Signal
from protos.metrics import carried, otlp
from protos.metrics.instruments import Registry
from protos.metrics.snapshot import Snapshot, merged

_WITHIN: Final = 5.0  # seconds in which the loop tells a thread


class Numbers:
    """This process's, in `registry`, with those that `elsewhere` tells."""

    def __init__(self, registry: Registry, elsewhere: Callable[[], Awaitable[Sequence[Snapshot]]]) -> None:
        self.registry = registry
        self._elsewhere = elsewhere

    async def now(self) -> Snapshot:
        """All of them."""
        others = await self._elsewhere()
        return merged([self.registry.snapshot(), *others])


def pushed(numbers: Numbers, telemetry: Telemetry) -> Callable[[], None]:
    """They go to the collector, if there is one, from now on; what is given ends that, and sends them once more.

    It blocks, and asks us: so it is called in a thread.
    """
    sending = contextlib.ExitStack()
    if telemetry.otlp is None:
        return sending.close
    loop = asyncio.get_running_loop()

    def told() -> Snapshot:
        return asyncio.run_coroutine_threadsafe(numbers.now(), loop).result(_WITHIN)

    sending.enter_context(otlp.sent(telemetry.otlp, telemetry.service, told, partial(dropped.add, Signal.METRICS)))
    return sending.close


@contextlib.asynccontextmanager
async def told(numbers: Callable[[], Snapshot], at: Path) -> AsyncIterator[None]:
    """While inside, whoever connects to the socket gets them, and the end."""

    async def tell(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError):
            writer.write(carried.written(numbers()))
            await writer.drain()
        writer.close()

    server = await asyncio.start_unix_server(tell, at)
    at.chmod(0o600)  # noqa: ASYNC240 - takes no time
    try:
        yield
    finally:
        server.close()
