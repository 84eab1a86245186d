"""What the lane asks of us. Law: it is answered though the loop is busy, and not once the loop hangs.

Were it answered by the loop, calls that the lane hands over would keep it from an answer, and so have all others handed
over, too: after one bad second a gateway would never come back to what the lane can carry. So a thread answers, at an
address of its own.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final

import grpc

from gateway.lane import ASK_PATH, Generation
from protos.contract import GENERATION_KEY

_NONE: Final = "-"
_BEAT: Final = 0.1  # seconds between signs of life
_HANGS: Final = 2.0  # seconds without one


@contextlib.asynccontextmanager
async def answering(generation: Generation, address: str) -> AsyncIterator[int]:
    """Tell the generation at the address while inside: HOST:PORT, or a socket; gives the port.

    Raises RuntimeError: it cannot be had.
    """
    alive_at = time.monotonic()

    async def beat() -> None:
        nonlocal alive_at
        while True:
            alive_at = time.monotonic()
            await asyncio.sleep(_BEAT)

    server = grpc.server(ThreadPoolExecutor(1, thread_name_prefix="asked"), options=[("grpc.so_reuseport", 0)])
    server.add_generic_rpc_handlers((_Asked(generation, lambda: time.monotonic() - alive_at < _HANGS),))
    port = server.add_insecure_port(address)
    server.start()
    beating = asyncio.create_task(beat())
    try:
        yield port
    finally:
        beating.cancel()
        await asyncio.to_thread(server.stop(None).wait)


class _Asked(grpc.GenericRpcHandler):
    def __init__(self, generation: Generation, alive: Callable[[], bool]) -> None:
        self._generation = generation
        self._alive = alive
        self._handler: grpc.RpcMethodHandler[Any, Any] = grpc.unary_unary_rpc_method_handler(self._tell)

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler[Any, Any] | None:
        return self._handler if handler_call_details.method == ASK_PATH else None

    def _tell(self, _request: bytes, context: grpc.ServicerContext) -> bytes:
        word = self._generation.word() if self._alive() else ""
        context.send_initial_metadata(((GENERATION_KEY, word or _NONE),))
        return b""
