"""`python -m loadtest.bare TARGET`: the least that a grpc.aio proxy can do. Law: bytes there, bytes back, no thought.

It is what the gateway is measured against. It prints `HOST:PORT` when it listens, and ends with its standard input.
"""

from __future__ import annotations

import asyncio
import sys
from typing import Any

import grpc
import grpc.aio

from loadtest.children import until_parent_ends

Context = grpc.aio.ServicerContext[Any, Any]  # requests and responses are bytes; gRPC's types cannot say so


class PassThrough(grpc.GenericRpcHandler):
    """Every unary call, whatever its name, goes to the same channel."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self._channel = channel

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler[Any, Any]:
        """The handler of one call."""
        path = handler_call_details.method

        async def forward(body: bytes, context: Context) -> Any:  # noqa: ANN401 - bytes
            call: Any = self._channel.unary_unary(path)
            return await call(body, metadata=context.invocation_metadata(), timeout=context.time_remaining())

        return grpc.unary_unary_rpc_method_handler(forward)


async def _serve(target: str) -> None:
    async with grpc.aio.insecure_channel(target) as channel:
        server = grpc.aio.server()
        server.add_generic_rpc_handlers((PassThrough(channel),))
        port = server.add_insecure_port("127.0.0.1:0")
        await server.start()
        print(f"127.0.0.1:{port}", flush=True)  # noqa: T201 - the parent reads it
        await until_parent_ends()
        await server.stop(None)


if __name__ == "__main__":
    asyncio.run(_serve(sys.argv[1]))
