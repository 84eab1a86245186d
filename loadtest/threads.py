"""`python -m loadtest.threads TARGET`: what a proxy of threads can do. Law: bytes there, bytes back, no thought.

It prints `HOST:PORT` when it listens, and ends with its standard input.
"""

from __future__ import annotations

import sys
from concurrent.futures import ThreadPoolExecutor

import grpc

_THREADS = 64  # calls at a time; more than any load here opens
_LARGEST = (("grpc.max_receive_message_length", -1),)


class PassThrough(grpc.GenericRpcHandler):
    """Every unary call, whatever its name, goes to the same channel."""

    def __init__(self, channel: grpc.Channel) -> None:
        self._channel = channel

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler[bytes, bytes]:
        """The handler of one call."""
        call: grpc.UnaryUnaryMultiCallable[bytes, bytes] = self._channel.unary_unary(handler_call_details.method)

        def forward(body: bytes, context: grpc.ServicerContext) -> bytes:
            return call(body, metadata=context.invocation_metadata(), timeout=context.time_remaining())

        return grpc.unary_unary_rpc_method_handler(forward)


def _serve(target: str) -> None:
    with grpc.insecure_channel(target) as channel, ThreadPoolExecutor(_THREADS) as pool:
        server = grpc.server(pool, handlers=[PassThrough(channel)], options=_LARGEST)
        port = server.add_insecure_port("127.0.0.1:0")
        server.start()
        print(f"127.0.0.1:{port}", flush=True)  # noqa: T201 - the parent reads it
        sys.stdin.read()
        server.stop(None).wait()


if __name__ == "__main__":
    _serve(sys.argv[1])
