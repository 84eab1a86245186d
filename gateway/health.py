"""`grpc.health.v1` of the gateway and, through it, of each model. Law: health tells a stranger nothing of models.

The service as a whole (the empty name, or the service's own) answers anyone. A model's name is answered as
`ModelReady` would be, to callers that may inspect it: SERVING when a copy of every version that takes calls is ready.
Questions are read from anyone, so they are short, and must come soon.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any, Final

import grpc
import grpc.aio
from google.protobuf.message import DecodeError
from grpc_health.v1 import health
from grpc_health.v1.health_pb2 import HealthCheckRequest, HealthCheckResponse

from gateway.answer import out_of_time
from gateway.authorize import Permit
from gateway.call import malformed, read_call
from gateway.choose import Route, find
from gateway.exchange import Around, Context, Exchange
from gateway.forward import forward
from gateway.readiness import Readiness
from gateway.refusals import Refusals
from gateway.rpcs import RPCS
from gateway.steps import Steps
from gateway.wire import string_field
from protos import grpc_service_pb2 as pb
from protos.boundary import refuse
from protos.contract import SERVICE
from protos.errors import HeadraceError, Reason
from protos.spans import Spans

_OVERALL: Final = ("", SERVICE)
_LOOK_AGAIN: Final = 1.0  # seconds between looks at what is watched, and for which a look at a model holds
_READ_WITHIN: Final = 2.0  # seconds
_LONGEST: Final = 1024  # bytes of a question
_MODEL_READY: Final = RPCS[f"/{SERVICE}/ModelReady"]


class Health(grpc.GenericRpcHandler):
    """Check and Watch; `clock` is monotonic, in seconds."""

    def __init__(
        self, now: Callable[[], Steps], readiness: Readiness, refusals: Refusals, clock: Callable[[], float]
    ) -> None:
        self._now = now
        self._readiness = readiness
        self._refusals = refusals
        self._clock = clock
        self._around = Around(Spans("headrace.gateway"), clock)  # who watches would fill the traces
        self._seen: dict[str, tuple[float, bool]] = {}  # model -> when it was looked at, whether it served
        self._handlers: dict[str, grpc.RpcMethodHandler[Any, Any]] = {
            f"/{health.SERVICE_NAME}/Check": grpc.stream_unary_rpc_method_handler(self._check),
            f"/{health.SERVICE_NAME}/Watch": grpc.stream_stream_rpc_method_handler(self._watch),
        }

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler[Any, Any] | None:
        """The handler of the RPC, if it is one of health's."""
        return self._handlers.get(handler_call_details.method)

    async def _check(self, _questions: object, context: Context) -> bytes:
        """The status now; what may not be told is refused as ModelReady refuses it."""
        try:
            return _answer(await self._serves(await _asked(context), context))
        except Exception as exception:  # noqa: BLE001 - the boundary: whatever it is, the caller gets a status
            await refuse(context, self._refusals.told(exception, ""))

    async def _watch(self, _questions: object, context: Context) -> AsyncIterator[bytes]:
        """The status now and whenever it changes, until we close; SERVICE_UNKNOWN for what may not be told."""
        try:
            service = await _asked(context)
        except HeadraceError as error:
            await refuse(context, self._refusals.told(error, ""))
        told = b""
        while not self._readiness.closing:
            turn = self._readiness.turn()  # what turns while the watcher is told, it is told next
            answer = await self._told(service, context)
            if answer != told:
                told = answer
                yield answer
            await self._readiness.changes(_LOOK_AGAIN, turn)

    async def _told(self, service: str, context: Context) -> bytes:
        try:
            return _answer(await self._serves(service, context))
        except Exception as exception:  # noqa: BLE001 - the boundary: a watcher is told no more
            self._refusals.told(exception, "")
            return HealthCheckResponse(status=HealthCheckResponse.SERVICE_UNKNOWN).SerializeToString()

    async def _serves(self, service: str, context: Context) -> bool:
        if service in _OVERALL:
            return self._readiness.ready
        exchange = Exchange(_MODEL_READY, context, self._around)
        steps = self._now()
        caller = await steps.verifier.verify(exchange.metadata)
        permit = steps.authorizer.authorize(caller, read_call(exchange.rpc, string_field(exchange.rpc.model, service)))
        looked, serves = self._seen.get(permit.model, (float("-inf"), False))
        if self._clock() - looked >= _LOOK_AGAIN:
            serves = await self._model_serves(steps, permit, exchange)
            self._seen[permit.model] = (self._clock(), serves)
        return serves

    async def _model_serves(self, steps: Steps, permit: Permit, exchange: Exchange) -> bool:
        """ModelReady of every version that takes calls."""
        model = find(steps.catalog, permit.model)
        asked = [
            forward(
                permit,
                Route(model, version, pinned=True, body=_ask(model.name, version)),
                exchange,
                steps.upstream,
            )
            for version, _ in model.weights
        ]
        try:
            answers = await asyncio.gather(*asked)
        except HeadraceError as error:
            if error.reason is Reason.MODEL_NOT_READY:
                return False
            raise
        return all(pb.ModelReadyResponse.FromString(answer.body).ready for answer in answers)


async def _asked(context: Context) -> str:
    """The name in the question. Raises HeadraceError: REQUEST_MALFORMED, DEADLINE."""
    try:
        async with asyncio.timeout(_READ_WITHIN):
            message: object = await context.read()
    except TimeoutError:
        raise out_of_time("the question did not come") from None
    if not isinstance(message, bytes) or len(message) > _LONGEST:
        raise malformed("there is no question, or too long a one")
    try:
        return HealthCheckRequest.FromString(message).service
    except DecodeError:
        raise malformed("the question cannot be read") from None


def _ask(name: str, version: str) -> bytes:
    return pb.ModelReadyRequest(name=name, version=version).SerializeToString()


def _answer(serves: bool) -> bytes:  # noqa: FBT001 - the one thing it is about
    status = HealthCheckResponse.SERVING if serves else HealthCheckResponse.NOT_SERVING
    return HealthCheckResponse(status=status).SerializeToString()
