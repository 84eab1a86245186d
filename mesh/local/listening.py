"""Whether processes are there. Law: looked at by a connection that says nothing, past the sidecars."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterable

from mesh.local.state import Beside

_PATIENCE = 1.0  # seconds


async def nobody_at(workloads: Iterable[Beside]) -> list[str]:
    """The places of processes, HOST:PORT with the workload's name, where nobody listens."""
    places = [(one, port) for one in workloads for port in one.ports]
    found = await asyncio.gather(*(_listens(one.process, port) for one, port in places))
    silent = [place for place, listens in zip(places, found, strict=True) if not listens]
    return [f"{one.process}:{port} ({one.namespace}/{one.name})" for one, port in silent]


async def _listens(host: str, port: int) -> bool:
    try:
        async with asyncio.timeout(_PATIENCE):
            _, writer = await asyncio.open_connection(host, port)
    except OSError:  # TimeoutError is one
        return False
    writer.close()
    with contextlib.suppress(OSError):
        await writer.wait_closed()
    return True
