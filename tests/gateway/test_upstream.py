"""What holds for every channel to workers."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

import grpc
import grpc.aio
import pytest

from gateway.choose import Route
from gateway.direct import Direct
from gateway.sidecar import Sidecar
from gateway.upstream import CHANNEL
from tests.gateway.test_by_host import ONE, model
from tests.gateway.world import INFER, Worker, running


@contextlib.asynccontextmanager
async def busy(address: str) -> AsyncIterator[str]:
    """The address of who takes connections at once, and comes to them a moment later."""
    host, _, port = address.rpartition(":")

    async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(65536):
                writer.write(data)
                await writer.drain()
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()

    async def relay(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await asyncio.sleep(0.4)
        there, here = await asyncio.open_connection(host, int(port))
        await asyncio.gather(pump(reader, here), pump(there, writer))

    before = asyncio.all_tasks()
    server = await asyncio.start_server(relay, "127.0.0.1", 0)
    try:
        yield f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        # Connections end with their callers; one that is being taken while the server closes would stay open.
        async with asyncio.timeout(10):
            while relays := asyncio.all_tasks() - before:
                await asyncio.wait(relays)
        server.close()


@pytest.mark.parametrize("patient", [True, False])
async def test_who_is_busy_is_not_gone(patient: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if not patient:
        hasty = [(key, 100 if key == "grpc.min_reconnect_backoff_ms" else value) for key, value in CHANNEL]
        for module in ("sidecar", "direct"):
            monkeypatch.setattr(f"gateway.{module}.CHANNEL", hasty)
    async with running(Worker()) as worker, busy(worker.address) as address:
        digits = model("digits", "digits.svc:8001", v1=ONE)
        route = Route(digits, "1", pinned=True, body=b"")
        upstream = Sidecar({"digits": digits}, address, {})
        (copy,) = await Direct({"digits": {"1": (address,)}}).copies(route)
        try:
            async with copy.reach() as channel:
                for each in (upstream.line(route).channel, channel):
                    with contextlib.nullcontext() if patient else pytest.raises(grpc.aio.AioRpcError):
                        await each.unary_unary(INFER)(b"", timeout=10)
        finally:
            await upstream.close()
    assert len(worker.calls) == (2 if patient else 0)
