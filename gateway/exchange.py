"""One RPC at the caller's socket. Law: of gRPC's server and of the clock, the steps of a call see nothing else."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from typing import Any
from urllib.parse import unquote

import grpc
import grpc.aio
from opentelemetry.trace import SpanContext

from gateway.answer import Answer, out_of_time
from gateway.authorize import Permit
from gateway.call import Call, malformed
from gateway.caller import Caller
from gateway.choose import Route
from gateway.ended import Ended, Observer
from gateway.headers import to_caller
from gateway.phases import Phase, Phases
from gateway.rpcs import Rpc
from gateway.spans import CallSpans
from gateway.wire import LENGTH, Malformed, fields
from protos import tracing
from protos.contract import PEER_KEY
from protos.errors import HeadraceError
from protos.spans import Spans

Context = grpc.aio.ServicerContext[Any, Any]  # requests and responses are bytes; gRPC's types cannot say so

_SERVED_VERSION = 2  # ModelInferResponse.model_version
_READ_WITHIN = 30.0  # seconds in which a unary call's message must have come
_GONE_WITHIN = 5.0  # seconds in which gRPC ends the call of a caller that has gone
_FOR_EVER = 1e8  # seconds; a deadline further away is none
_FRAME = 5  # bytes before each message
_OK, _CANCELLED = grpc.StatusCode.OK, grpc.StatusCode.CANCELLED
LEEWAY = 0.5  # seconds


@dataclass(frozen=True, slots=True)
class Around:
    """What an exchange has around it: who is told of its end, and whether an Envoy of ours tells who has called.

    `of_messages`: who is told, too, what is decided of messages of a stream, as if each were a call that ends by that.
    `clock` is monotonic, in seconds; `claims` are the names of those that spans may tell.
    """

    spans: Spans
    clock: Callable[[], float]
    observers: Sequence[Observer] = ()
    of_messages: Sequence[Observer] = ()
    fronted: bool = False
    claims: Collection[str] = ()


class Exchange:
    """What came in, how long it may take, under which id and span; and the way back."""

    __slots__ = (
        "_around",
        "_began",
        "_caller",
        "_clock",
        "_context",
        "_grant",
        "_messages_received",
        "_messages_sent",
        "_phases",
        "_received",
        "_sent",
        "_served",
        "_spans",
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
        self._phases = Phases(self._clock, self._started)
        self._spans = CallSpans(around.spans, rpc, self._started, self._began)
        self._caller: Caller | None = None
        self._version = self._served = self._grant = ""
        self._received = self._sent = self._messages_received = self._messages_sent = 0
        self._upstream = 0.0

    def known(self, caller: Caller) -> None:
        """The call is part of the caller's trace: whose trace a stranger says it is does not count."""
        self._caller = caller
        self._spans.begin(tracing.extract(self.metadata))

    def enters(self, phase: Phase) -> None:
        """Note where the call is from now on."""
        self._phases.enter(phase)

    @property
    def span_context(self) -> SpanContext:
        """The call's place in its trace; invalid until it is known who calls."""
        return self._spans.place.context

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
        self._phases.enter(Phase.READ)
        message: object = await self._context.read()
        if not isinstance(message, bytes):
            return None
        self._received += len(message) + _FRAME
        self._messages_received += 1
        return message

    async def write(self, message: bytes) -> None:
        """Send one message of a stream; returns when there is room for another."""
        try:
            await self._context.write(message)
        except grpc.aio.InternalError:  # the caller has gone, and gRPC is about to cancel us
            await asyncio.sleep(_GONE_WITHIN)
            raise
        self._sent += len(message) + _FRAME
        self._messages_sent += 1

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

    def asks_nothing(self) -> None:
        """Of a stream's next message nothing is known yet: what the one before it asked for is not its own."""
        self.model = self._version = self._grant = ""

    def permitted(self, permit: Permit) -> None:
        """Note by which grant."""
        self._grant = permit.grant

    @property
    def left(self) -> bool:
        """Whether the caller has gone."""
        return self._context.cancelled()

    def hop(self, route: Route) -> Hop:
        """Around one call to a worker; gives the metadata that makes it the parent of the worker's span."""
        return Hop(self, route)

    def hops(self) -> tuple[float, int, list[tuple[str, str]]]:
        """When a call to a worker begins, its span's id, and the metadata that makes it the parent of the worker's."""
        span_id, place = self._spans.hop(), self._spans.place
        words = tracing.words(place.context, span_id)
        if place.sampled:
            words.append((tracing.TRACED_KEY, place.trace_id))
        return self._clock(), span_id, words

    def hopped(self, hop: Hop, error: BaseException | None) -> None:
        """Note that a call to a worker has ended."""
        now = self._clock()
        self._upstream += now - hop.began
        if not self._around.spans.on:
            return
        failed = error if isinstance(error, HeadraceError) else None
        status = failed.status if failed else _CANCELLED if error else _OK
        model = hop.route.model
        self._spans.hopped(hop.span_id, model.name, model.host, (hop.began, now), (status, failed))

    async def reply(self, answer: Answer, ours: Sequence[tuple[str, str]] = ()) -> bytes:
        """Hand on the worker's metadata, and ours; the bytes are the RPC's result."""
        self._phases.enter(Phase.ANSWER)
        self._served = served_version(self.rpc, answer.body)
        if initial := (*to_caller(answer.initial), *ours):
            await self._context.send_initial_metadata(initial)
        if trailing := to_caller(answer.trailing):
            self._context.set_trailing_metadata(trailing)
        self._sent += len(answer.body) + _FRAME
        self._messages_sent += 1
        return answer.body

    def end(self, outcome: grpc.StatusCode, error: HeadraceError | None = None) -> None:
        """Tell who looks on of the status that the caller gets; spans are made now, if they are kept."""
        reason = (error and error.reason) or ""
        duration = self.age
        kept = self._spans.decide(outcome, reason, duration)
        if not (kept or self._around.observers):
            return
        ended = self._ended(outcome, reason, duration, kept=kept)
        if kept:
            self._spans.tell(ended, error, self._phases, self._claims())
        for observe in self._around.observers:
            observe(ended)

    def decided(self, error: HeadraceError | None = None) -> None:
        """Tell of a message of a stream, which may go on: that it is refused, or else allowed."""
        status, reason = (error.status, error.reason or "") if error else (grpc.StatusCode.OK, "")
        for observe in self._around.of_messages:
            # What workers have had so far was of the messages before.
            observe(self._ended(status, reason, self.age, kept=False)._replace(upstream=0.0))

    def _ended(self, outcome: grpc.StatusCode, reason: str, duration: float, *, kept: bool) -> Ended:
        return Ended(
            rpc=self.rpc,
            status=outcome,
            reason=reason,
            model=self.model,
            version_asked=self._version,
            version_served=self._served,
            caller=self._caller.name if self._caller else "",
            grant=self._grant,
            request_id=self.request_id,
            trace_id=self._spans.place.trace_id if kept or self._spans.place.given else "",
            kept=kept,
            peer=self._peer(),
            began=self._began,
            duration=duration,
            upstream=self._upstream,
            received=self._received,
            sent=self._sent,
            messages_received=self._messages_received,
            messages_sent=self._messages_sent,
        )

    def _claims(self) -> Mapping[str, object]:
        """Those of the caller's that spans may tell."""
        claims = self._caller.claims if self._caller else {}
        return {name: claims[name] for name in self._around.claims if name in claims}

    def _peer(self) -> str:
        return self.header(PEER_KEY) if self._around.fronted else address_of(self._context.peer())


class Hop:
    """One call to a worker, while inside."""

    __slots__ = ("_exchange", "began", "route", "span_id")

    def __init__(self, exchange: Exchange, route: Route) -> None:
        self._exchange = exchange
        self.route = route

    def __enter__(self) -> list[tuple[str, str]]:
        self.began, self.span_id, words = self._exchange.hops()
        return words

    def __exit__(self, _kind: object, error: BaseException | None, _trace: object) -> None:
        self._exchange.hopped(self, error)


def served_version(rpc: Rpc, body: bytes) -> str:
    """The version that an infer response says has answered; empty for every other response."""
    if rpc.name != "ModelInfer":
        return ""
    with suppress(Malformed, UnicodeDecodeError):
        for number, wire_type, _, value, end in fields(body):
            if number == _SERVED_VERSION and wire_type == LENGTH:
                return body[value:end].decode()
    return ""


@lru_cache(4096)
def address_of(peer: str) -> str:
    """The address in gRPC's word for a peer, `ipv4:127.0.0.1:80` or `ipv6:%5B::1%5D:80`; empty where it has none."""
    kind, _, rest = peer.partition(":")
    return unquote(rest).rpartition(":")[0].strip("[]").removeprefix("::ffff:") if kind in ("ipv4", "ipv6") else ""
