"""Where calls come in. Law: each is answered in the way of its RPC (`gateway.steps`), and what goes wrong is a status.

Generic handlers without (de)serialisers: messages are bytes here.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import grpc
import grpc.aio

from gateway.exchange import Around, Context, Exchange
from gateway.readiness import Readiness
from gateway.rpcs import RPCS, Rpc
from gateway.steps import WAYS, Steps, Way
from protos import of_call
from protos.boundary import refuse


class Service(grpc.GenericRpcHandler):
    """Every RPC of the service, each handled in the way that `gateway.rpcs` names, by the steps that hold `now`.

    `running`: how many calls are under way.
    """

    def __init__(self, now: Callable[[], Steps], readiness: Readiness, around: Around) -> None:
        self.running = 0
        self._readiness = readiness
        self._now = now
        self._around = around
        self._handlers = {path: self._handler(rpc) for path, rpc in RPCS.items()}

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler[Any, Any] | None:
        """The handler of the RPC; None (UNIMPLEMENTED) for a path that the contract does not have."""
        return self._handlers.get(handler_call_details.method)

    def _handler(self, rpc: Rpc) -> grpc.RpcMethodHandler[Any, Any]:
        way = WAYS[rpc.way]

        async def answer(_messages: object, context: Context) -> bytes | None:  # gRPC looks longer at a partial
            self.running += 1
            try:
                return await self._answer(rpc, way, context)
            finally:
                self.running -= 1

        if rpc.way == "stream":
            return grpc.stream_stream_rpc_method_handler(answer)
        # Declared as a stream of requests so that the message is read when we ask for it, and not before.
        return grpc.stream_unary_rpc_method_handler(answer)

    async def _answer(self, rpc: Rpc, way: Way, context: Context) -> bytes | None:
        """Answer one call; whatever goes wrong becomes a status here."""
        exchange = Exchange(rpc, context, self._around)
        of_call.begin(exchange)
        steps = self._now()
        try:
            await self._readiness.admit()
            if not rpc.open:
                self._readiness.account()
            answer = await way(steps, exchange)
        except asyncio.CancelledError:
            exchange.end(self._cut_short(exchange))
            raise
        except Exception as exception:  # noqa: BLE001 - the boundary: whatever it is, the caller gets a status
            if exchange.left:  # writing to who has gone fails
                exchange.end(self._cut_short(exchange))
                return None
            error = steps.told(exception, exchange)
            exchange.end(error.status, error)
            await refuse(context, error, exchange.request_id)
        else:
            exchange.end(grpc.StatusCode.OK)
            return answer

    def _cut_short(self, exchange: Exchange) -> grpc.StatusCode:
        """Of a call that gRPC has ended: by the caller's deadline, by us, or because the caller left."""
        remaining = exchange.remaining()
        if remaining is not None and remaining <= 0:
            return grpc.StatusCode.DEADLINE_EXCEEDED
        return grpc.StatusCode.UNAVAILABLE if self._readiness.closing else grpc.StatusCode.CANCELLED
