"""A gateway's admin page whose numbers a test sets. It writes what a gateway writes, by the same code."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from aiohttp import web

from protos import tracing
from protos.metrics.described import LATENCY, Described, Kind
from protos.metrics.instruments import Registry
from protos.metrics.prometheus import PROTOBUF, exposed
from protos.metrics.snapshot import Labels

CALLS = Described(
    "headrace.calls",
    Kind.COUNTER,
    "{call}",
    "Calls.",
    (
        *(tracing.RPC_METHOD, tracing.MODEL, tracing.VERSION_ASKED, tracing.VERSION_SERVED, tracing.GRANT),
        *(tracing.LANE, tracing.RPC_STATUS, tracing.REASON),
    ),
)
DURATION = Described(
    "rpc.server.call.duration",
    Kind.HISTOGRAM,
    "s",
    "How long.",
    (tracing.RPC_METHOD, tracing.MODEL, tracing.VERSION_SERVED, tracing.LANE, tracing.RPC_STATUS),
    LATENCY,
)
DROPPED = Described("headrace.telemetry.dropped", Kind.COUNTER, "{item}", "Lost.", (tracing.SIGNAL,))
GAUGES: dict[str, tuple[str, ...]] = {
    "headrace.calls.active": (tracing.LANE,),
    "headrace.admission.limit": (tracing.MODEL,),
    "headrace.admission.running": (tracing.MODEL,),
    "headrace.copies": (tracing.MODEL, tracing.VERSION_SERVED),
    "headrace.copies.ready": (tracing.MODEL, tracing.VERSION_SERVED),
    "headrace.ready": (),
    "headrace.config.refused": (),
    "headrace.audit.failing": (),
}
INFER, STREAM = (f"inference.GRPCInferenceService/{name}" for name in ("ModelInfer", "ModelStreamInfer"))


class Gateway:
    """What has been counted so far."""

    def __init__(self) -> None:
        registry = Registry(lambda: 0.0)
        self._calls, self._durations = registry.counter(CALLS), registry.histogram(DURATION)
        self.dropped = registry.counter(DROPPED)
        self.gauges: dict[str, dict[Labels, float]] = {name: {} for name in GAUGES}
        self.gauges["headrace.ready"] = {(): 1.0}
        for name, labels in GAUGES.items():
            registry.asked(Described(name, Kind.GAUGE, "{x}", "Now.", labels), lambda name=name: self.gauges[name])
        self.registry = registry

    def calls(
        self,
        number: int,
        model: str,
        version: str,
        took: float = 0.001,
        lane: str = "python",
        *,
        status: str = "OK",
        reason: str = "",
        method: str = INFER,
    ) -> None:
        """So many more calls."""
        self._calls.add(number, method, model, "", version, "everyone", lane, status, reason)
        for _ in range(number):
            self._durations.record(took, method, model, version, lane, status)

    def page(self) -> bytes:
        return exposed(self.registry.snapshot(), PROTOBUF)[1]

    @asynccontextmanager
    async def serving(self, port: int = 0) -> AsyncIterator[str]:
        """The URL."""

        async def metrics(request: web.Request) -> web.Response:
            kind, body = exposed(self.registry.snapshot(), request.headers["Accept"])
            return web.Response(body=body, headers={"Content-Type": kind})

        app = web.Application()
        app.add_routes([web.get("/metrics", metrics)])
        runner = web.AppRunner(app, access_log=None)
        await runner.setup()
        try:
            await web.TCPSite(runner, "127.0.0.1", port).start()
            yield f"http://127.0.0.1:{runner.addresses[0][1]}"
        finally:
            await runner.cleanup()
