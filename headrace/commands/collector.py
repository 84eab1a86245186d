"""`headrace collector`."""

from __future__ import annotations

import asyncio
import signal
from typing import Annotated

import typer

from headrace.commands import parse
from headrace.failure import CommandError


def collector(
    otlp: Annotated[
        str, typer.Option(metavar="HOST:PORT", parser=parse.address, help="Where spans come, by OTLP/gRPC.")
    ] = "127.0.0.1:4317",
    query: Annotated[
        str,
        typer.Option(metavar="HOST:PORT", parser=parse.address, help="Where they are asked for: Jaeger's query API."),
    ] = "127.0.0.1:16686",
    memory: Annotated[
        str, typer.Option(metavar="SIZE", parser=parse.size, help="Beyond it, the oldest traces are forgotten.")
    ] = "64MiB",
) -> int:
    """Keep the latest traces in memory, where there is no Jaeger; headrace trace shows them.

    Whoever reaches an address may send, or read: by default these are of the loopback.
    """
    try:
        asyncio.run(_until_stopped(otlp, query, int(memory)))
    except OSError as error:
        raise CommandError(f"{error.strerror or error}: choose another --otlp or --query") from None
    return 0


async def _until_stopped(otlp: str, query: str, room: int) -> None:
    from headrace.traces.collector import collecting  # noqa: PLC0415 - aiohttp, gRPC
    from headrace.traces.store import Store  # noqa: PLC0415

    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    async with collecting(Store(room), otlp, query) as running:
        typer.echo(f"headrace collector ready on {running.url.removeprefix('http://')}")
        typer.echo(f"headrace trace --from {running.query} shows what comes")
        await stop.wait()
