"""A worker over a repository of tiny models, and ways to call it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from pathlib import Path

import grpc.aio
import pytest
from opentelemetry.context import Context
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from protos.grpc_service_pb2_grpc import GRPCInferenceServiceStub
from protos.spans import Place, Spans
from protos.tracing import resource
from tests.kept import Kept
from workers.server import Options, serving


class Calls(Spans):
    """Counts the calls that have begun. In one event loop, a small one is then in its queue."""

    begun = 0

    def begin(self, context: Context, traced: str = "") -> Place:
        self.begun += 1
        return super().begin(context, traced)


class World:
    """A running worker: its address, a channel and a stub."""

    def __init__(self, address: str, channel: grpc.aio.Channel, calls: Calls) -> None:
        self.address = address
        self.channel = channel
        self.calls = calls
        self.stub = GRPCInferenceServiceStub(channel)


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    folder = tmp_path / "models"
    folder.mkdir()
    return folder


@pytest.fixture
def spans() -> InMemorySpanExporter:
    return InMemorySpanExporter()


@pytest.fixture
async def start(repository: Path, spans: InMemorySpanExporter) -> AsyncIterator[Callable[..., object]]:
    """Start a worker on the repository as it now is; `await start(queue=2)`."""
    async with AsyncExitStack() as stack:

        async def begin(**options: object) -> World:
            chosen = Options(repository, "127.0.0.1:0", **{"drain": 5.0, **options})
            calls = Calls("headrace.worker", Kept(spans), resource("headrace-worker"), slow=chosen.slow)
            address = await stack.enter_async_context(serving(chosen, calls))
            channel = await stack.enter_async_context(grpc.aio.insecure_channel(address))
            return World(address, channel, calls)

        yield begin


async def until(condition: Callable[[], object], seconds: float = 10.0) -> None:
    """Wait for a condition; fail when it does not come true in time."""
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0.002)
