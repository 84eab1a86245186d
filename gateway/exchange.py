"""One RPC at the caller's socket. Law: the only view that the steps of a call have of gRPC's server and of the clock."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterable
from typing import Any

import grpc
import grpc.aio
from opentelemetry.trace import Span, SpanKind, Status, StatusCode, Tracer, set_span_in_context

from gateway.call import Call, malformed
from gateway.caller import Caller
from gateway.forward import Answer
from gateway.headers import to_caller
from gateway.rpcs import Rpc
from protos import tracing
from protos.errors import HeadraceError

Context = grpc.aio.ServicerContext[Any, Any]  # requests and responses are bytes; gRPC's types cannot say so


class Exchange:
    """What came in, how long it may take, under which id and span; and the way back.

    `clock` is monotonic, in seconds.
    """

    __slots__ = ("_clock", "_context", "_started", "metadata", "request_id", "rpc", "span", "tracer")

    def __init__(self, rpc: Rpc, context: Context, tracer: Tracer, clock: Callable[[], float]) -> None:
        self.rpc = rpc
        self.metadata: tuple[tuple[str, str | bytes], ...] = tuple(context.invocation_metadata() or ())
        self.request_id = secrets.token_hex(16)
        self.tracer = tracer
        self.span = tracer.start_span(rpc.full_name, tracing.extract(self.metadata), SpanKind.SERVER)
        self._context = context
        self._clock = clock
        self._started = clock()
        if self.span.is_recording():
            self.span.set_attributes(
                {
                    tracing.RPC_SYSTEM: "grpc",
                    tracing.RPC_METHOD: rpc.full_name,
                    tracing.REQUEST_ID: self.request_id,
                    tracing.LANE: "python",
                }
            )

    async def read(self) -> bytes:
        """The one message of a unary RPC. Raises HeadraceError REQUEST_MALFORMED where there is none."""
        message = await self.next()
        if message is None:
            raise malformed("the call brings no message")
        return message

    async def next(self) -> bytes | None:
        """The next message of the caller's, or None when it has sent its last."""
        message: object = await self._context.read()
        return message if isinstance(message, bytes) else None

    async def write(self, message: bytes) -> None:
        """Send one message of a stream; returns when there is room for another."""
        await self._context.write(message)

    def remaining(self, most: float | None = None) -> float | None:
        """Seconds until the caller's deadline, or until `most` seconds after the start, whichever is sooner."""
        of_caller = self._context.time_remaining()
        if most is None:
            return of_caller
        ours = self._started + most - self._clock()
        return ours if of_caller is None else min(of_caller, ours)

    def decided(self, caller: Caller, call: Call) -> None:
        """Tell the span who asks for what."""
        if self.span.is_recording():
            self.span.set_attribute(tracing.CALLER, caller.name)
            self.span.set_attribute(tracing.MODEL, call.model)
            self.span.set_attribute(tracing.VERSION_ASKED, call.version)

    async def reply(self, answer: Answer) -> bytes:
        """Hand on the worker's metadata; the bytes are the RPC's result."""
        initial = to_caller(answer.initial)
        if initial:
            await self._context.send_initial_metadata(initial)
        trailing = to_caller(answer.trailing)
        if trailing:
            self._context.set_trailing_metadata(trailing)
        return answer.body

    def end(self, outcome: grpc.StatusCode, error: HeadraceError | None = None) -> None:
        """End the span with the status that the caller gets."""
        if self.span.is_recording():
            record_outcome(self.span, outcome, error)
        self.span.end()


def record_outcome(span: Span, outcome: grpc.StatusCode, error: HeadraceError | None = None) -> None:
    """Write the status on the span; with its private text, which stays among ourselves."""
    span.set_attribute(tracing.RPC_STATUS, outcome.name)
    if outcome is not grpc.StatusCode.OK:
        span.set_attribute(tracing.ERROR_TYPE, outcome.name)
        span.set_status(Status(StatusCode.ERROR, str(error) if error else outcome.name))
    if error is not None and error.reason is not None:
        span.set_attribute(tracing.REASON, error.reason)


def client_span(exchange: Exchange, attributes: Iterable[tuple[str, str]]) -> Span:
    """A span for one call to a worker, under the exchange's own."""
    span = exchange.tracer.start_span(
        exchange.rpc.full_name, set_span_in_context(exchange.span), SpanKind.CLIENT, attributes=dict(attributes)
    )
    if span.is_recording():
        span.set_attributes({tracing.RPC_SYSTEM: "grpc", tracing.RPC_METHOD: exchange.rpc.full_name})
    return span
