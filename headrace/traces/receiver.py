"""OTLP/gRPC, received. Law: an export that is absurd is refused, and no export holds up or ends the process."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Callable
from typing import Any, Final

import grpc
import grpc.aio
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceResponse

from headrace.listening import tried
from headrace.traces.otlp import NotOtlp, read
from headrace.traces.store import Store

LARGEST: Final = 4 * 1024 * 1024  # bytes of an export: what every OTLP receiver takes
_AT_ONCE: Final = 16  # exports
_STREAMS: Final = 16  # of a connection
_SERVICE: Final = "opentelemetry.proto.collector.trace.v1.TraceService"
_OPTIONS: Final = (
    ("grpc.max_receive_message_length", LARGEST),
    ("grpc.max_concurrent_streams", _STREAMS),
    ("grpc.so_reuseport", 0),  # else a second collector would share the port, and each have half of the spans
)


@contextlib.asynccontextmanager
async def receiving(store: Store, came: Callable[[], None], address: str) -> AsyncIterator[int]:
    """Take exports at HOST:PORT while inside, and call `came` after each; the port. Raises OSError."""

    async def export(body: bytes, context: grpc.aio.ServicerContext[Any, Any]) -> ExportTraceServiceResponse:
        try:
            found = read(body)
        except NotOtlp:
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, "no spans that are taken here")
        store.add(found.spans)
        came()
        return _answer(found.rejected)

    handler: grpc.RpcMethodHandler[bytes, ExportTraceServiceResponse] = grpc.unary_unary_rpc_method_handler(
        export, response_serializer=ExportTraceServiceResponse.SerializeToString
    )
    server = grpc.aio.server(options=_OPTIONS, maximum_concurrent_rpcs=_AT_ONCE)
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(_SERVICE, {"Export": handler}),))
    try:
        tried(address)  # gRPC would write lines of its own
        port = server.add_insecure_port(address)
    except (OSError, RuntimeError) as error:
        raise OSError(f"cannot listen on {address} ({getattr(error, 'strerror', None) or error})") from None
    await server.start()
    try:
        yield port
    finally:
        await server.stop(grace=None)


def _answer(rejected: int) -> ExportTraceServiceResponse:
    """https://opentelemetry.io/docs/specs/otlp/#partial-success."""
    answer = ExportTraceServiceResponse()
    if rejected:
        answer.partial_success.rejected_spans = rejected
        answer.partial_success.error_message = "spans without an id, or too large"
    return answer
