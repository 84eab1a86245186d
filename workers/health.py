"""`grpc.health.v1` for the worker and for each model.

Law: a watcher is told every change, and let go when the worker drains, so that no watch holds up its end.

The library's own servicer for grpc.aio forgets all watchers of a service when one of them leaves.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Final

import grpc
import grpc.aio
from grpc_health.v1 import health_pb2 as pb

from protos.boundary import refuse
from protos.errors import HeadraceError, Reason

SERVICE: Final = "grpc.health.v1.Health"
Context = grpc.aio.ServicerContext[pb.HealthCheckRequest, pb.HealthCheckResponse]
_Status = pb.HealthCheckResponse


class Health:
    """What serves: `""` is the worker as a whole, `also` are other names for it; models have their own."""

    def __init__(self, *also: str) -> None:
        self._whole = frozenset(("", *also))
        self._serving: dict[str, bool] = {}
        self._open = False
        self.draining = False
        self._changed = asyncio.Event()

    def open(self) -> None:
        """The worker takes calls."""
        self._open = True
        self._tell()

    def model(self, name: str, *, serving: bool) -> None:
        """A model was loaded or unloaded."""
        self._serving[name] = serving
        self._tell()

    def drain(self) -> None:
        """Nothing serves from now on."""
        self.draining = True
        self._tell()

    def status(self, service: str) -> int | None:
        """The status of a service; None where there is none of that name."""
        if service not in self._whole and service not in self._serving:
            return None
        return _Status.SERVING if self.serves(service) else _Status.NOT_SERVING

    def serves(self, service: str) -> bool:
        """Whether calls for it may come."""
        return self._open and not self.draining and self._serving.get(service, True)

    async def check(self, request: pb.HealthCheckRequest, context: Context) -> pb.HealthCheckResponse:
        """The status now; NOT_FOUND for an unknown service, as the protocol wants it."""
        status = self.status(request.service)
        if status is None:
            error = HeadraceError(grpc.StatusCode.NOT_FOUND, Reason.MODEL_UNKNOWN, "there is no such service here")
            await refuse(context, error)
        return pb.HealthCheckResponse(status=status)

    async def watch(self, request: pb.HealthCheckRequest, _: Context) -> AsyncIterator[pb.HealthCheckResponse]:
        """The status now and whenever it changes."""
        told: int | None = None
        while True:
            changed, draining = self._changed, self.draining  # what changes while the watcher is told, it is told next
            status = self.status(request.service)
            now = _Status.SERVICE_UNKNOWN if status is None else status
            if now != told:
                told = now
                yield pb.HealthCheckResponse(status=now)
            if draining:
                return
            await changed.wait()

    def handler(self) -> grpc.GenericRpcHandler:
        """For `Server.add_generic_rpc_handlers`."""
        return grpc.method_handlers_generic_handler(
            SERVICE,
            {
                "Check": grpc.unary_unary_rpc_method_handler(
                    self.check,
                    request_deserializer=pb.HealthCheckRequest.FromString,
                    response_serializer=pb.HealthCheckResponse.SerializeToString,
                ),
                "Watch": grpc.unary_stream_rpc_method_handler(
                    self.watch,
                    request_deserializer=pb.HealthCheckRequest.FromString,
                    response_serializer=pb.HealthCheckResponse.SerializeToString,
                ),
            },
        )

    def _tell(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()
