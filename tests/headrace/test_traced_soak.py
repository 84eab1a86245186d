"""A collector that is dead: 200,000 calls, by each lane, leave nothing behind; what is lost is counted."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest

from protos import dropped
from tests.envoy import needs_envoy
from tests.gateway import world as worlds
from tests.gateway.world import World
from tests.headrace.test_express import envoys, until_carried
from tests.headrace.test_express_soak import called

pytestmark = [pytest.mark.soak, pytest.mark.timeout(1800)]

MIB = 1024 * 1024
CALLS = 200_000


@asynccontextmanager
async def collector(kind: str) -> AsyncIterator[str]:
    """One that nobody is, or that takes connections and never says a word."""
    if kind == "nobody":
        yield f"http://{worlds.unused_address()}"
        return

    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError, asyncio.CancelledError):
            while await reader.read(1 << 16):
                pass
        writer.close()

    server = await asyncio.start_server(silent, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        server.close()


def sent_to(url: str) -> Any:
    return lambda config: config.update(telemetry={"otlp": url, "sample": 0.1})


@pytest.mark.parametrize("kind", ["nobody", "silent"])
async def test_the_python_lane(tmp_path: Path, kind: str, capsys: pytest.CaptureFixture[str]) -> None:
    before = dropped.counts().get("spans", 0)
    async with collector(kind) as url, worlds.world(tmp_path, sent_to(url)) as world:
        await _flat(world, psutil.Process(os.getpid()), kind, capsys)
    assert dropped.counts()["spans"] - before > CALLS * 0.1


@needs_envoy
@pytest.mark.parametrize("kind", ["nobody", "silent"])
async def test_the_express_lane(tmp_path: Path, kind: str, capsys: pytest.CaptureFixture[str]) -> None:
    async with collector(kind) as url, worlds.world(tmp_path, sent_to(url), express=True) as world:
        await until_carried(world)
        (envoy,) = envoys(tmp_path)
        await _flat(world, envoy, kind, capsys)


async def _flat(world: World, process: psutil.Process, kind: str, capsys: pytest.CaptureFixture[str]) -> None:
    await some(world, CALLS // 5)
    sizes = [process.memory_info().rss]
    for _ in range(4):
        await some(world, CALLS // 5)
        sizes.append(process.memory_info().rss)
    with capsys.disabled():
        print(f"\n{kind}: MiB after each {CALLS // 5} calls: {[round(size / MIB, 1) for size in sizes]}")  # noqa: T201
    assert sizes[-1] - sizes[0] < 16 * MIB


async def some(world: World, calls: int) -> None:
    """Calls; what the worker has noted of them is let go."""
    for _ in range(10):
        await called(world, [world.bearer()], calls // 10)
        for worker in world.workers.values():
            worker.calls.clear()
            worker.metadata.clear()
            worker.remaining.clear()
