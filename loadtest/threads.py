"""`python -m loadtest.threads TARGET`: the least that a proxy on grpcio's threads can do. Law: as `loadtest.bare`.

It prints `HOST:PORT` when it listens, and ends with its standard input.
"""

from __future__ import annotations

import sys
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc

_THREADS = 16


class PassThrough(grpc.GenericRpcHandler):
    """Every unary call, whatever its name, goes to the same channel."""

    def __init__(self, channel: grpc.Channel) -> None:
        self._channel = channel

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler[Any, Any]:
        """The handler of one call."""
        method: Any = self._channel.unary_unary(handler_call_details.method)

        def forward(body: bytes, context: grpc.ServicerContext) -> Any:  # noqa: ANN401 - bytes
            return method(body, metadata=context.invocation_metadata(), timeout=context.time_remaining())

        return grpc.unary_unary_rpc_method_handler(forward)


def _serve(target: str) -> None:
    with grpc.insecure_channel(target) as channel:
        server = grpc.server(ThreadPoolExecutor(_THREADS), [PassThrough(channel)])
        port = server.add_insecure_port("127.0.0.1:0")
        server.start()
        print(f"127.0.0.1:{port}", flush=True)  # noqa: T201 - the parent reads it
        sys.stdin.read()
        server.stop(None).wait()


if __name__ == "__main__":
    _serve(sys.argv[1])
