"""How a server's process ends. Law: the first signal drains it, a second ends it at once."""

from __future__ import annotations

import asyncio
import logging
import signal
from collections.abc import Awaitable, Callable

from protos import logs
from protos.log_settings import Logs

Serve = Callable[[asyncio.Event, asyncio.Event], Awaitable[int]]
"""Serves: sets the first event when it does, drains when the second is set; the value is the exit code."""


def run(serve: Serve, log: logging.Logger, lines: Logs) -> int:
    """Serve until SIGTERM or SIGINT, and drain; what `serve` gives, or 0 when told before it served.

    `lines` says where `log`'s go, and all others'.
    A second signal ends the drain, and the calls that still run: 1. Raises what `serve` does.
    """
    with logs.written(lines):
        return asyncio.run(_until_told(serve, log))


async def _until_told(serve: Serve, log: logging.Logger) -> int:
    ready, told = asyncio.Event(), asyncio.Event()
    work = asyncio.ensure_future(serve(ready, told))

    def tell() -> None:
        if told.is_set() or not ready.is_set():
            work.cancel()
        told.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, tell)
    try:
        return await work
    except asyncio.CancelledError:
        log.info("told to end at once")
        return 1 if ready.is_set() else 0
