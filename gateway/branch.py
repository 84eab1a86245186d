"""One destination of a caller's stream. Law: what waits for it is bounded, and a worker that hangs is told of.

Messages go in by `put`, in their order, and wait one at a time besides the one that is being written; more wait in the
windows of HTTP/2. Answers are handed on as fast as the caller takes them: none is asked for before the last is taken.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from typing import Any, Final

import grpc
import grpc.aio

from gateway.answer import not_ready, worker_error
from gateway.authorize import Permit
from gateway.choose import Route
from gateway.exchange import Exchange
from gateway.headers import to_worker
from gateway.sequence_told import in_stream, of_sequence
from gateway.upstream import Upstream
from protos.errors import HeadraceError, Reason

_Call = grpc.aio.StreamStreamCall[Any, Any]  # messages are bytes; gRPC's types cannot say so

STUCK: Final = 30.0  # seconds in which a worker that has its windows full must take a message


class Branch:
    """An upstream stream; `model` is whose it is, `hand_on` gives the caller an answer."""

    def __init__(self, model: str, hand_on: Callable[[bytes], Awaitable[None]]) -> None:
        self.model = model
        self._hand_on = hand_on
        self._waiting: asyncio.Queue[bytes | None] = asyncio.Queue(1)
        self._clock = asyncio.get_running_loop().time
        self._moved = self._clock()
        self._handing = False
        self._closed = False

    async def put(self, message: bytes | None) -> None:
        """Have the message written after those before it; returns when there is room for another.

        Raises HeadraceError OVERLOADED: the worker has taken none for long, and it is not for the caller, who takes
        its answers. The message is then not written.
        """
        while self._waiting.full():
            try:
                async with asyncio.timeout_at(self._moved + STUCK):
                    await self._waiting.put(message)
                    return
            except TimeoutError:
                if self._handing:
                    self._moved = self._clock()
                elif self._clock() >= self._moved + STUCK:
                    raise _stuck() from None
        self._waiting.put_nowait(message)

    async def close(self) -> None:
        """Have no more messages written after those that wait; answers are still handed on. Raises as `put` does."""
        await self.put(None)

    async def run(self, exchange: Exchange, permit: Permit, route: Route, upstream: Upstream) -> None:
        """Carry messages and answers until the worker has given its last. Raises HeadraceError."""
        metadata = to_worker(exchange.metadata, permit, route, exchange.request_id)
        with exchange.hop(route) as trace_context, upstream.line(route) as channel:
            call: _Call = channel.stream_stream(exchange.rpc.path)(
                metadata=(*metadata, *trace_context), timeout=exchange.given()
            )
            writing = asyncio.create_task(self._write(call))
            lost = route._replace(sequence_start=False)  # more may have come than the first message
            try:
                await self._read(call, route)
            except grpc.aio.AioRpcError as error:
                raise of_sequence(worker_error(error, exchange.request_id), lost) from None
            except HeadraceError as error:
                raise of_sequence(error, lost) from None
            finally:
                call.cancel()
                writing.cancel()
                await asyncio.wait([writing])

    async def _write(self, call: _Call) -> None:
        # A stream that fails is reported by its reader, once.
        with contextlib.suppress(grpc.aio.AioRpcError, asyncio.InvalidStateError):
            while (message := await self._next()) is not None:
                await call.write(message)
            self._closed = True
            await call.done_writing()

    async def _next(self) -> bytes | None:
        message = await self._waiting.get()
        self._moved = self._clock()
        return message

    async def _read(self, call: _Call, route: Route) -> None:
        while isinstance(answer := await call.read(), bytes):
            self._handing = True
            await self._hand_on(in_stream(answer, route))
            self._handing = False
            self._moved = self._clock()  # who answers is at work, though windows of HTTP/2 widen in long steps
        await _finished(call)
        if not self._closed:
            raise not_ready("the worker has ended a stream before its caller did")


async def _finished(call: _Call) -> None:
    """Raise what the stream ended with, if not OK."""
    code = await call.code()
    if code is not grpc.StatusCode.OK:
        raise grpc.aio.AioRpcError(
            code, await call.initial_metadata(), await call.trailing_metadata(), details=await call.details()
        )


def _stuck() -> HeadraceError:
    return HeadraceError(
        grpc.StatusCode.RESOURCE_EXHAUSTED,
        Reason.OVERLOADED,
        f"the model has taken no message of this stream for {STUCK:g} s",
        retry_after=STUCK,
    )
