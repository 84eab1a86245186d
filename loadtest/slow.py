"""`python -m loadtest.slow AT_A_TIME SECONDS`: a worker that takes its time. Law: what comes first is done first.

It works on so many calls at a time, each for so many seconds, and the others wait in line. It prints `HOST:PORT` when
it listens, and ends with its standard input.
"""

from __future__ import annotations

import asyncio
import sys

import grpc
import grpc.aio

from loadtest.children import until_parent_ends
from loadtest.payload import PATH, answer

_ANSWER = answer()


class _Slow(grpc.GenericRpcHandler):
    def __init__(self, at_a_time: int, takes: float) -> None:
        self._places = asyncio.Semaphore(at_a_time)
        self._takes = takes

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler[bytes, bytes] | None:
        if handler_call_details.method != PATH:
            return None
        return grpc.unary_unary_rpc_method_handler(self._answer)

    async def _answer(self, _message: bytes, _context: object) -> bytes:
        async with self._places:
            await asyncio.sleep(self._takes)
        return _ANSWER


async def _serve(at_a_time: int, takes: float) -> None:
    server = grpc.aio.server()
    server.add_generic_rpc_handlers((_Slow(at_a_time, takes),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    print(f"127.0.0.1:{port}", flush=True)  # noqa: T201 - the parent reads it
    await until_parent_ends()
    await server.stop(None)


if __name__ == "__main__":
    asyncio.run(_serve(int(sys.argv[1]), float(sys.argv[2])))
