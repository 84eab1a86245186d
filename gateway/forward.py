"""Bytes there and back. Law: only what a `Permit` and a `Route` name is forwarded, and nothing of it is decoded."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import grpc.aio

from gateway.answer import Answer, out_of_time, worker_error
from gateway.authorize import Permit
from gateway.choose import Route
from gateway.exchange import Exchange
from gateway.headers import to_worker
from gateway.sequence_told import of_sequence
from gateway.upstream import Upstream

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
    metadata = to_worker(exchange.metadata, permit, route, exchange.request_id)
    with exchange.hop(route) as trace_context, upstream.line(route) as channel:
        method: Method = channel.unary_unary(exchange.rpc.path)
        words = _Words([*metadata, *trace_context])
        call = method(route.body, metadata=words, timeout=exchange.given(route.model.timeout))
        try:
            body: bytes = await call
        except grpc.aio.AioRpcError as error:
            raise of_sequence(worker_error(error, exchange.request_id), route) from None
        return Answer(body, tuple(await call.initial_metadata()), tuple(await call.trailing_metadata()))
