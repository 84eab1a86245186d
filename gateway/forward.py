"""Bytes there and back. Law: only what a `Permit` and a `Route` name is forwarded, and nothing of it is decoded."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import grpc.aio

from gateway.answer import Answer, out_of_time, worker_error
from gateway.authorize import Permit
from gateway.call import TIMEOUT, parameter
from gateway.choose import Route
from gateway.exchange import Exchange
from gateway.headers import to_worker
from gateway.sequence_told import of_sequence
from gateway.upstream import Copy, Upstream
from protos.errors import HeadraceError

Method = grpc.aio.UnaryUnaryMultiCallable[Any, Any]  # messages are bytes; gRPC's types cannot say so


class _Words(grpc.aio.Metadata):
    """Metadata that is only sent; gRPC's own class would make a map of lists of it first."""

    def __init__(self, pairs: Sequence[tuple[str, str | bytes]]) -> None:
        super().__init__()
        self._pairs = pairs

    def __len__(self) -> int:
        return len(self._pairs)

    def __iter__(self) -> Iterator[tuple[str, str | bytes]]:
        return iter(self._pairs)


async def forward(permit: Permit, route: Route, exchange: Exchange, upstream: Upstream) -> Answer:
    """The answer of one of the route's copies. Raises HeadraceError; cancelled, it cancels the worker's call."""
    remaining = exchange.remaining(route.model.timeout)
    if remaining is not None and remaining <= 0:
        raise out_of_time()
    body = route.body
    if route.stamped and remaining is not None:
        body += parameter(TIMEOUT, max(1, int(remaining * 1e6)))  # microseconds
    metadata = to_worker(exchange.metadata, permit, route, exchange.request_id)
    with exchange.hop(route) as trace_context, upstream.line(route) as channel:
        words = _Words([*metadata, *trace_context])
        try:
            return await _answer(channel, body, words, exchange, exchange.given(route.model.timeout))
        except HeadraceError as error:
            raise of_sequence(error, route) from None


async def forward_to(copy: Copy, permit: Permit, route: Route, exchange: Exchange, within: float) -> Answer:
    """The answer of this one copy in so many seconds. Raises HeadraceError; cancelled, it cancels the worker's call."""
    metadata = to_worker(exchange.metadata, permit, route, exchange.request_id)
    with exchange.hop(route) as trace_context:
        async with copy.reach() as channel:
            words = _Words([*metadata, *copy.words, *trace_context])
            return await _answer(channel, route.body, words, exchange, within)


async def _answer(
    channel: grpc.aio.Channel, message: bytes, words: _Words, exchange: Exchange, given: float | None
) -> Answer:
    method: Method = channel.unary_unary(exchange.rpc.path)
    call = method(message, metadata=words, timeout=given)
    try:
        body: bytes = await call
    except grpc.aio.AioRpcError as error:
        raise worker_error(error, exchange.request_id) from None
    return Answer(body, tuple(await call.initial_metadata()), tuple(await call.trailing_metadata()))
