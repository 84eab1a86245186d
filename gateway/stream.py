"""ModelStreamInfer: one caller's stream, fanned out. Law: order within a destination is kept; no loss is silent.

Each destination (model, version, pinned or drawn, sequence) has its own upstream stream, opened when first needed; that
of a sequence that has ended is kept until its place is needed. A message that is refused is answered in-band
(`error_message`, as Triton does), or ends the stream with a real status where the caller sends
`triton_grpc_error: true`. An upstream stream that fails ends the caller's: nobody could tell which of the messages
under way were lost with it.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from typing import Any, Final

import grpc
import grpc.aio

from gateway.answer import worker_error
from gateway.authorize import Permit
from gateway.call import LONGEST
from gateway.choose import Route
from gateway.exchange import Exchange
from gateway.headers import to_worker
from gateway.sequence_told import in_stream, of_sequence
from gateway.upstream import Upstream
from gateway.wire import LENGTH, Malformed, bytes_field, fields, string_field
from protos.errors import HeadraceError, Reason

Decide = Callable[[bytes], Awaitable[tuple[Permit, Route, Upstream]]]
Call = grpc.aio.StreamStreamCall[Any, Any]  # messages are bytes; gRPC's types cannot say so

_Destination = tuple[str, str, bool, str]

_REAL_STATUS: Final = "triton_grpc_error"
_LANES: Final = 256  # upstream streams of one caller's, each of which a breaker counts
_PATIENCE: Final = 100  # messages in a row that are refused before the stream is
_ID: Final = 3  # in ModelInferRequest and in ModelInferResponse
_ERROR_MESSAGE, _INFER_RESPONSE = 1, 2  # ModelStreamInferResponse


async def relay(exchange: Exchange, decide: Decide) -> None:
    """Carry a stream until both sides are done. Raises HeadraceError; cancelled, it cancels every upstream stream."""
    try:
        await _Relay(exchange, decide).run()
    except BaseExceptionGroup as failed:
        # Where several lanes fail at once, the caller is told of one.
        first: BaseException = failed
        while isinstance(first, BaseExceptionGroup):
            first = first.exceptions[0]
        raise first from None


class _Relay:
    def __init__(self, exchange: Exchange, decide: Decide) -> None:
        self._exchange = exchange
        self._decide = decide
        self._lanes: dict[_Destination, Call] = {}
        self._ended: dict[_Destination, None] = {}  # sequences, in the order in which they have ended
        self._writing = asyncio.Lock()  # gRPC takes one message of a stream at a time
        self._refused = 0  # messages one after another
        self._real_status = exchange.header(_REAL_STATUS).lower() == "true"

    async def run(self) -> None:
        async with asyncio.TaskGroup() as lanes:
            while (message := await self._exchange.next()) is not None:
                await self._pass_on(message, lanes)
            for call in self._lanes.values():
                await call.done_writing()

    async def _pass_on(self, message: bytes, lanes: asyncio.TaskGroup) -> None:
        try:
            permit, route, upstream = await self._decide(message)
            call = await self._lane(permit, route, upstream, lanes)
        except HeadraceError as error:
            self._refused += 1
            if self._real_status or error.status is grpc.StatusCode.UNAUTHENTICATED or self._refused > _PATIENCE:
                raise
            await self._write(in_band(error, message))
            return
        self._refused = 0
        # A stream that fails is reported by its pump, once.
        with contextlib.suppress(grpc.aio.AioRpcError, asyncio.InvalidStateError):
            await call.write(route.body)
        if route.sequence_end:
            self._ended[_destination(route)] = None

    async def _lane(self, permit: Permit, route: Route, upstream: Upstream, lanes: asyncio.TaskGroup) -> Call:
        """The upstream stream of the route's destination. Raises HeadraceError OVERLOADED: there are too many."""
        destination = _destination(route)
        self._ended.pop(destination, None)  # the sequence has begun anew
        call = self._lanes.get(destination)
        if call is None or call.done():
            if destination not in self._lanes and len(self._lanes) >= _LANES:
                await self._make_room()
            opened: asyncio.Future[Call] = asyncio.get_running_loop().create_future()
            lanes.create_task(self._pump(permit, route, upstream, opened))
            call = self._lanes[destination] = await opened
        return call

    async def _make_room(self) -> None:
        """Let go of the stream of a sequence that has ended. Raises HeadraceError OVERLOADED: none has."""
        if not self._ended:
            raise HeadraceError(
                grpc.StatusCode.RESOURCE_EXHAUSTED,
                Reason.OVERLOADED,
                f"one stream carries at most {_LANES} sequences and models; use several streams",
            )
        destination = next(iter(self._ended))
        del self._ended[destination]
        await self._lanes.pop(destination).done_writing()  # what it still answers is passed on

    async def _pump(self, permit: Permit, route: Route, upstream: Upstream, opened: asyncio.Future[Call]) -> None:
        """Open an upstream stream and hand its answers to the caller, as fast as the caller takes them."""
        exchange = self._exchange
        metadata = to_worker(exchange.metadata, permit, route, exchange.request_id)
        with exchange.hop(route) as trace_context, upstream.line(route) as channel:
            call: Call = channel.stream_stream(exchange.rpc.path)(
                metadata=(*metadata, *trace_context), timeout=exchange.given()
            )
            opened.set_result(call)
            try:
                while isinstance(answer := await call.read(), bytes):
                    await self._write(in_stream(answer, route))
                await _finished(call)
            except grpc.aio.AioRpcError as error:
                lost = route._replace(sequence_start=False)  # more may have come than the first message
                raise of_sequence(worker_error(error, exchange.request_id), lost) from None
            finally:
                call.cancel()

    async def _write(self, message: bytes) -> None:
        async with self._writing:
            await self._exchange.write(message)


def _destination(route: Route) -> _Destination:
    return route.model.name, route.version, route.pinned, route.sequence


async def _finished(call: Call) -> None:
    """Raise what the stream ended with, if not OK."""
    code = await call.code()
    if code is not grpc.StatusCode.OK:
        raise grpc.aio.AioRpcError(
            code, await call.initial_metadata(), await call.trailing_metadata(), details=await call.details()
        )


def in_band(error: HeadraceError, message: bytes) -> bytes:
    """The `ModelStreamInferResponse` that refuses one message: reason and public text, and the message's `id`."""
    text = f"{error.reason or error.status.name}: {error.public}"
    answer = string_field(_ERROR_MESSAGE, text)
    with contextlib.suppress(Malformed):
        for number, wire_type, _, value, end in fields(message):
            if number == _ID and wire_type == LENGTH and end - value <= LONGEST:
                echo = bytes_field(_ID, message[value:end])
                return answer + bytes_field(_INFER_RESPONSE, echo)
    return answer
