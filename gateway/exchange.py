"""One RPC at the caller's socket. Law: of gRPC's server and of the clock, the steps of a call see nothing else."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from typing import Any

import grpc
import grpc.aio
from opentelemetry import context as otel
from opentelemetry.trace import INVALID_SPAN, Span, SpanKind, Status, StatusCode, Tracer, set_span_in_context

from gateway.answer import Answer, out_of_time
from gateway.call import Call, malformed
from gateway.caller import Caller
from gateway.choose import Route
from gateway.headers import to_caller
from gateway.rpcs import Rpc
from gateway.wire import LENGTH, Malformed, fields
from protos import tracing
from protos.errors import HeadraceError

Context = grpc.aio.ServicerContext[Any, Any]  # requests and responses are bytes; gRPC's types cannot say so

_SERVED_VERSION = 2  # ModelInferResponse.model_version
_READ_WITHIN = 30.0  # seconds in which a unary call's message must have come
_GONE_WITHIN = 5.0  # seconds in which gRPC ends the call of a caller that has gone
_FOR_EVER = 1e8  # seconds; a deadline further away is none
_LONGEST = 1000  # characters of a span's status
LEEWAY = 0.5  # seconds


class Exchange:
    """What came in, how long it may take, under which id and span; and the way back.

    `clock` is monotonic, in seconds.
    """

    __slots__ = (
        "_began",
        "_clock",
        "_context",
        "_span",
        "_started",
        "_tracer",
        "_until",
        "metadata",
        "model",
        "request_id",
        "rpc",
    )

    def __init__(self, rpc: Rpc, context: Context, tracer: Tracer, clock: Callable[[], float]) -> None:
        self.rpc = rpc
        self.metadata: tuple[tuple[str, str | bytes], ...] = tuple(context.invocation_metadata() or ())
        self.model = ""  # what is asked for, once the caller is known
        self.request_id = f"{random.getrandbits(128):032x}"  # tells calls apart, and keeps no secret
        self._context = context
        self._clock = clock
        self._started = clock()
        left = context.time_remaining()
        self._until = None if left is None or left > _FOR_EVER else self._started + left
        self._tracer = tracer
        self._began = time.time_ns()  # a span's own clock
        self._span: Span = INVALID_SPAN

    def known(self, caller: Caller) -> None:
        """Begin the span, under the caller's own: whose trace a stranger says it is does not count."""
        self._begin(tracing.extract(self.metadata))
        if self._span.is_recording():
            self._span.set_attribute(tracing.CALLER, caller.name)

    def _begin(self, parent: otel.Context) -> None:
        self._span = self._tracer.start_span(self.rpc.full_name, parent, SpanKind.SERVER, start_time=self._began)
        if self._span.is_recording():
            self._span.set_attributes(_named(self.rpc) | {tracing.REQUEST_ID: self.request_id, tracing.LANE: "python"})

    @property
    def span(self) -> Span:
        """The call's span; invalid until it is known who calls."""
        return self._span

    @property
    def age(self) -> float:
        """Seconds since the call came."""
        return self._clock() - self._started

    async def read(self) -> bytes:
        """The one message of a unary RPC. Raises HeadraceError: REQUEST_MALFORMED where there is none, DEADLINE."""
        if self._until is not None and self._until <= self._started + _READ_WITHIN:  # then gRPC ends the call in time
            message = await self.next()
        else:
            message = await self._next_in_time()
        if message is None:
            raise malformed("the call brings no message")
        return message

    async def _next_in_time(self) -> bytes | None:
        try:
            async with asyncio.timeout(_READ_WITHIN):
                return await self.next()
        except TimeoutError:
            raise out_of_time("the message did not come") from None

    async def next(self) -> bytes | None:
        """The next message of the caller's, or None when it has sent its last."""
        message: object = await self._context.read()
        return message if isinstance(message, bytes) else None

    async def write(self, message: bytes) -> None:
        """Send one message of a stream; returns when there is room for another."""
        try:
            await self._context.write(message)
        except grpc.aio.InternalError:  # the caller has gone, and gRPC is about to cancel us
            await asyncio.sleep(_GONE_WITHIN)
            raise

    def remaining(self, most: float | None = None, leeway: float = 0.0) -> float | None:
        """Seconds until the caller's deadline and `leeway`, or until `most` after the start, whichever is sooner."""
        if self._until is None:
            return None if most is None else self._started + most - self._clock()
        until = self._until + leeway
        return (until if most is None else min(until, self._started + most)) - self._clock()

    def given(self, most: float | None = None) -> float | None:
        """Seconds that a worker is given: a little more than the caller has, but no more than `most` from the start.

        A caller that runs out of time leaves, and its call is cancelled; the mesh would hold it against the worker.
        """
        return self.remaining(most, LEEWAY)

    def header(self, name: str) -> str:
        """The value of a key that the caller sent once; empty otherwise."""
        values = [value for key, value in self.metadata if key == name]
        return values[0] if len(values) == 1 and isinstance(values[0], str) else ""

    def asks(self, call: Call) -> None:
        """Note what is asked for."""
        self.model = call.model
        if self._span.is_recording():
            asked = {tracing.MODEL: call.model, tracing.VERSION_ASKED: call.version}
            self._span.set_attributes({name: value for name, value in asked.items() if value})

    @property
    def left(self) -> bool:
        """Whether the caller has gone."""
        return self._context.cancelled()

    def hop(self, route: Route) -> AbstractContextManager[list[tuple[str, str]]]:
        """A client span around one call to a worker; gives the metadata that makes it the parent of the worker's."""
        return self._recorded(route) if self._span.is_recording() else nullcontext(tracing.inject(self._span))

    @contextmanager
    def _recorded(self, route: Route) -> Iterator[list[tuple[str, str]]]:
        span = self._tracer.start_span(self.rpc.full_name, set_span_in_context(self._span), SpanKind.CLIENT)
        span.set_attributes(
            _named(self.rpc) | {tracing.MODEL: route.model.name, tracing.SERVER_ADDRESS: route.model.host}
        )
        outcome, failure = grpc.StatusCode.CANCELLED, None
        try:
            yield tracing.inject(span)
            outcome = grpc.StatusCode.OK
        except HeadraceError as error:
            outcome, failure = error.status, error
            raise
        finally:
            _record(span, outcome, failure)
            span.end()

    async def reply(self, answer: Answer, ours: Sequence[tuple[str, str]] = ()) -> bytes:
        """Hand on the worker's metadata, and ours; the bytes are the RPC's result."""
        if self._span.is_recording() and (version := served_version(self.rpc, answer.body)):
            self._span.set_attribute(tracing.VERSION_SERVED, version)
        if initial := (*to_caller(answer.initial), *ours):
            await self._context.send_initial_metadata(initial)
        if trailing := to_caller(answer.trailing):
            self._context.set_trailing_metadata(trailing)
        return answer.body

    def end(self, outcome: grpc.StatusCode, error: HeadraceError | None = None) -> None:
        """End the span with the status that the caller gets."""
        if self._span is INVALID_SPAN:
            self._begin(otel.Context())
        if self._span.is_recording():
            _record(self._span, outcome, error)
        self._span.end()


def served_version(rpc: Rpc, body: bytes) -> str:
    """The version that an infer response says has answered; empty for every other response."""
    if rpc.name != "ModelInfer":
        return ""
    with suppress(Malformed, UnicodeDecodeError):
        for number, wire_type, _, value, end in fields(body):
            if number == _SERVED_VERSION and wire_type == LENGTH:
                return body[value:end].decode()
    return ""


def _named(rpc: Rpc) -> dict[str, str]:
    return {tracing.RPC_SYSTEM: "grpc", tracing.RPC_METHOD: rpc.full_name}


def _record(span: Span, outcome: grpc.StatusCode, error: HeadraceError | None) -> None:
    """Write the status on the span; with its private text, which stays among ourselves."""
    span.set_attribute(tracing.RPC_STATUS, outcome.name)
    if outcome is not grpc.StatusCode.OK:
        span.set_attribute(tracing.ERROR_TYPE, outcome.name)
        span.set_status(Status(StatusCode.ERROR, str(error)[:_LONGEST] if error else outcome.name))
    if error is not None and error.reason is not None:
        span.set_attribute(tracing.REASON, error.reason)
