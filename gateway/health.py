"""`grpc.health.v1` of the gateway and, through it, of each model. Law: health tells a stranger nothing of models.

The service as a whole (the empty name, or the service's own) answers anyone. A model's name is answered as
`ModelReady` would be, to callers that may inspect it: SERVING when a copy of every version that takes calls is ready.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any, Final

import grpc
import grpc.aio
from grpc_health.v1 import health_pb2, health_pb2_grpc
from opentelemetry.trace import Tracer

from gateway.call import read_call
from gateway.choose import Route, find
from gateway.exchange import Exchange
from gateway.forward import forward
from gateway.readiness import Readiness
from gateway.rpcs import RPCS, SERVICE
from gateway.service import Steps
from gateway.wire import string_field
from protos import grpc_service_pb2 as pb
from protos.boundary import as_error, refuse
from protos.errors import HeadraceError, Reason

Context = grpc.aio.ServicerContext[Any, Any]
Request = health_pb2.HealthCheckRequest
Response = health_pb2.HealthCheckResponse

_OVERALL: Final = ("", SERVICE)
_LOOK_AGAIN: Final = 1.0  # seconds between looks at what is watched
_MODEL_READY: Final = RPCS[f"/{SERVICE}/ModelReady"]


class Health(health_pb2_grpc.HealthServicer):
    """Check and Watch."""

    def __init__(self, steps: Steps, readiness: Readiness, tracer: Tracer, clock: Callable[[], float]) -> None:
        self._steps = steps
        self._readiness = readiness
        self._tracer = tracer
        self._clock = clock

    async def Check(self, request: Request, context: Context) -> Response:  # noqa: N802 - gRPC's name
        """The status now; what may not be told is refused as ModelReady refuses it."""
        try:
            return Response(status=_status(await self._serves(request.service, context)))
        except Exception as exception:  # noqa: BLE001 - the boundary: whatever it is, the caller gets a status
            await refuse(context, as_error(exception, ""))

    async def Watch(self, request: Request, context: Context) -> AsyncIterator[Response]:  # noqa: N802 - gRPC's name
        """The status now and whenever it changes, until we close; SERVICE_UNKNOWN for what may not be told."""
        told: int | None = None
        while not self._readiness.closing:
            try:
                status = _status(await self._serves(request.service, context))
            except HeadraceError:
                status = Response.SERVICE_UNKNOWN
            if status != told:
                told = status
                yield Response(status=status)
            await self._readiness.changes(_LOOK_AGAIN)

    async def _serves(self, service: str, context: Context) -> bool:
        if service in _OVERALL:
            return self._readiness.ready
        exchange = Exchange(_MODEL_READY, context, self._tracer, self._clock)
        outcome = grpc.StatusCode.OK
        try:
            return await self._model_serves(service, exchange)
        except HeadraceError as error:
            outcome = error.status
            if error.reason is Reason.MODEL_NOT_READY:
                return False
            raise
        finally:
            exchange.end(outcome)

    async def _model_serves(self, name: str, exchange: Exchange) -> bool:
        """ModelReady of every version that takes calls."""
        steps = self._steps
        caller = await steps.verifier.verify(exchange.metadata)
        permit = steps.authorizer.authorize(caller, read_call(exchange.rpc, string_field(exchange.rpc.model, name)))
        model = find(steps.catalog, permit.model)
        asked = [
            forward(permit, Route(model, version, pinned=True, body=_ask(name, version)), exchange, steps.upstream)
            for version, _ in model.weights
        ]
        answers = await asyncio.gather(*asked)
        return all(pb.ModelReadyResponse.FromString(answer.body).ready for answer in answers)


def _ask(name: str, version: str) -> bytes:
    return pb.ModelReadyRequest(name=name, version=version).SerializeToString()


def _status(serves: bool) -> int:  # noqa: FBT001 - the one thing it is about
    return Response.SERVING if serves else Response.NOT_SERVING
