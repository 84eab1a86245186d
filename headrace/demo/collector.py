"""An OTLP/gRPC trace collector in memory. Law: it keeps the latest spans only, however long the demo stays up."""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter, deque
from collections.abc import AsyncIterator, Mapping
from typing import Any, Final

import grpc.aio
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from opentelemetry.proto.collector.trace.v1.trace_service_pb2_grpc import (
    TraceServiceServicer,
    add_TraceServiceServicer_to_server,
)

from headrace.demo.spans import Span, from_otlp
from protos import tracing

_KEPT: Final = 20_000


class Collector(TraceServiceServicer):
    """What the processes of the demo have exported; `url` is where they export to."""

    def __init__(self) -> None:
        self.url = ""
        self._spans: deque[Span] = deque(maxlen=_KEPT)
        self._came = asyncio.Event()

    async def Export(  # noqa: N802 - the RPC's name
        self,
        request: ExportTraceServiceRequest,
        context: grpc.aio.ServicerContext[Any, Any],  # noqa: ARG002 - gRPC's signature
    ) -> ExportTraceServiceResponse:
        """Keep the spans."""
        self._spans.extend(from_otlp(request))
        self._came.set()
        return ExportTraceServiceResponse()

    async def trace(self, trace_id: str, size: int, wait: float) -> tuple[Span, ...]:
        """The spans of one trace: as soon as `size` of them are here, else what is here after `wait` seconds."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(wait):
                while len(self._of(trace_id)) < size:
                    self._came.clear()
                    await self._came.wait()
        return self._of(trace_id)

    async def lanes(self, calls: int, wait: float) -> Mapping[str, int]:
        """Lane -> how many calls came by it: as soon as there are `calls`, else what is here after `wait` seconds."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(wait):
                while sum(self._lanes().values()) < calls:
                    self._came.clear()
                    await self._came.wait()
        return self._lanes()

    def _lanes(self) -> Mapping[str, int]:
        served = (span.attributes.get(tracing.LANE) for span in self._spans if span.kind == "server")
        return Counter(lane for lane in served if isinstance(lane, str))

    def _of(self, trace_id: str) -> tuple[Span, ...]:
        return tuple(span for span in self._spans if span.trace == trace_id)

    @contextlib.asynccontextmanager
    async def serving(self) -> AsyncIterator[Collector]:
        """While inside, it takes exports at `url`, on a free port of the loopback."""
        server = grpc.aio.server()
        add_TraceServiceServicer_to_server(self, server)  # type: ignore[no-untyped-call] # it publishes no types
        self.url = f"http://127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
        await server.start()
        try:
            yield self
        finally:
            await server.stop(grace=None)
