"""One RPC at the caller's socket. Law: of gRPC's server and of the clock, the steps of a call see nothing else."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote

import grpc
import grpc.aio
from opentelemetry import context as otel
from opentelemetry.trace import (
    INVALID_SPAN,
    Span,
    SpanKind,
    Status,
    StatusCode,
    Tracer,
    get_current_span,
    set_span_in_context,
)

from gateway.answer import Answer, out_of_time
from gateway.authorize import Permit
from gateway.call import Call, malformed
from gateway.caller import Caller
from gateway.choose import Route
from gateway.ended import Ended, Observer
from gateway.headers import to_caller
from gateway.rpcs import Rpc
from gateway.wire import LENGTH, Malformed, fields
from protos import tracing
from protos.contract import PEER_KEY
from protos.errors import HeadraceError

Context = grpc.aio.ServicerContext[Any, Any]  # requests and responses are bytes; gRPC's types cannot say so

_SERVED_VERSION = 2  # ModelInferResponse.model_version
_READ_WITHIN = 30.0  # seconds in which a unary call's message must have come
_GONE_WITHIN = 5.0  # seconds in which gRPC ends the call of a caller that has gone
_FOR_EVER = 1e8  # seconds; a deadline further away is none
_LONGEST = 1000  # characters of a span's status
_FRAME = 5  # bytes before each message
LEEWAY = 0.5  # seconds


@dataclass(frozen=True, slots=True)
class Around:
    """What an exchange has around it: who is told of its end, and whether an Envoy of ours tells who has called.

    `of_messages`: who is told, too, what is decided of messages of a stream, as if each were a call that ends by that.
    `clock` is monotonic, in seconds.
    """

    tracer: Tracer
    clock: Callable[[], float]
    observers: Sequence[Observer] = ()
    of_messages: Sequence[Observer] = ()
    fronted: bool = False


class Exchange:
    """What came in, how long it may take, under which id and span; and the way back."""

    __slots__ = (
        "_around",
        "_began",
        "_caller",
        "_clock",
        "_context",
        "_grant",
        "_in_a_trace",
        "_received",
        "_sent",
        "_served",
        "_span",
        "_started",
        "_until",
        "_upstream",
        "_version",
        "metadata",
        "model",
        "request_id",
        "rpc",
    )

    def __init__(self, rpc: Rpc, context: Context, around: Around) -> None:
        self.rpc = rpc
        self.metadata: tuple[tuple[str, str | bytes], ...] = tuple(context.invocation_metadata() or ())
        self.model = ""  # what is asked for, once the caller is known
        self.request_id = f"{random.getrandbits(128):032x}"  # tells calls apart, and keeps no secret
        self._context = context
        self._around = around
        self._clock = around.clock
        self._started = self._clock()
        left = context.time_remaining()
        self._until = None if left is None or left > _FOR_EVER else self._started + left
        self._began = time.time_ns()  # a span's own clock
        self._span: Span = INVALID_SPAN
        self._in_a_trace = False
        self._caller: Caller | None = None
        self._version = self._served = self._grant = ""
        self._received = self._sent = 0
        self._upstream = 0.0

    def known(self, caller: Caller) -> None:
        """Begin the span, under the caller's own: whose trace a stranger says it is does not count."""
        self._caller = caller
        self._begin(tracing.extract(self.metadata))
        if self._span.is_recording():
            self._span.set_attribute(tracing.CALLER, caller.name)

    def _begin(self, parent: otel.Context) -> None:
        self._span = self._around.tracer.start_span(self.rpc.full_name, parent, SpanKind.SERVER, start_time=self._began)
        # Of a trace that begins here and is not kept nobody else has heard.
        sampled = self._span.get_span_context().trace_flags.sampled
        self._in_a_trace = sampled or get_current_span(parent).get_span_context().is_valid
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
        if not isinstance(message, bytes):
            return None
        self._received += len(message) + _FRAME
        return message

    async def write(self, message: bytes) -> None:
        """Send one message of a stream; returns when there is room for another."""
        try:
            await self._context.write(message)
        except grpc.aio.InternalError:  # the caller has gone, and gRPC is about to cancel us
            await asyncio.sleep(_GONE_WITHIN)
            raise
        self._sent += len(message) + _FRAME

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
        self.model, self._version = call.model, call.version
        if self._span.is_recording():
            asked = {tracing.MODEL: call.model, tracing.VERSION_ASKED: call.version}
            self._span.set_attributes({name: value for name, value in asked.items() if value})

    def permitted(self, permit: Permit) -> None:
        """Note by which grant."""
        self._grant = permit.grant
        if self._span.is_recording():
            self._span.set_attribute(tracing.GRANT, permit.grant)

    @property
    def left(self) -> bool:
        """Whether the caller has gone."""
        return self._context.cancelled()

    @contextmanager
    def hop(self, route: Route) -> Iterator[list[tuple[str, str]]]:
        """A client span around one call to a worker; gives the metadata that makes it the parent of the worker's."""
        began = self._clock()
        try:
            if self._span.is_recording():
                with self._recorded(route) as trace_context:
                    yield trace_context
            else:
                yield tracing.inject(self._span)
        finally:
            self._upstream += self._clock() - began

    @contextmanager
    def _recorded(self, route: Route) -> Iterator[list[tuple[str, str]]]:
        span = self._around.tracer.start_span(self.rpc.full_name, set_span_in_context(self._span), SpanKind.CLIENT)
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
        self._served = served_version(self.rpc, answer.body)
        if self._served and self._span.is_recording():
            self._span.set_attribute(tracing.VERSION_SERVED, self._served)
        if initial := (*to_caller(answer.initial), *ours):
            await self._context.send_initial_metadata(initial)
        if trailing := to_caller(answer.trailing):
            self._context.set_trailing_metadata(trailing)
        self._sent += len(answer.body) + _FRAME
        return answer.body

    def end(self, outcome: grpc.StatusCode, error: HeadraceError | None = None) -> None:
        """End the span with the status that the caller gets, and tell who looks on."""
        if self._span is INVALID_SPAN:
            self._begin(otel.Context())
        if self._span.is_recording():
            _record(self._span, outcome, error)
        self._span.end()
        if self._around.observers:
            ended = self._ended(outcome, error)
            for observe in self._around.observers:
                observe(ended)

    def decided(self, error: HeadraceError | None = None) -> None:
        """Tell of a message of a stream, which may go on: that it is refused, or else allowed."""
        for observe in self._around.of_messages:
            observe(self._ended(error.status if error else grpc.StatusCode.OK, error))

    def _ended(self, outcome: grpc.StatusCode, error: HeadraceError | None) -> Ended:
        return Ended(
            rpc=self.rpc,
            status=outcome,
            reason=(error and error.reason) or "",
            model=self.model,
            version_asked=self._version,
            version_served=self._served,
            caller=self._caller,
            grant=self._grant,
            request_id=self.request_id,
            trace_id=f"{self._span.get_span_context().trace_id:032x}" if self._in_a_trace else "",
            peer=self._peer(),
            began=self._began,
            duration=self.age,
            upstream=self._upstream,
            received=self._received,
            sent=self._sent,
        )

    def _peer(self) -> str:
        return self.header(PEER_KEY) if self._around.fronted else address_of(self._context.peer())


def served_version(rpc: Rpc, body: bytes) -> str:
    """The version that an infer response says has answered; empty for every other response."""
    if rpc.name != "ModelInfer":
        return ""
    with suppress(Malformed, UnicodeDecodeError):
        for number, wire_type, _, value, end in fields(body):
            if number == _SERVED_VERSION and wire_type == LENGTH:
                return body[value:end].decode()
    return ""


def address_of(peer: str) -> str:
    """The address in gRPC's word for a peer, `ipv4:127.0.0.1:80` or `ipv6:%5B::1%5D:80`; empty where it has none."""
    kind, _, rest = peer.partition(":")
    return unquote(rest).rpartition(":")[0].strip("[]").removeprefix("::ffff:") if kind in ("ipv4", "ipv6") else ""


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
