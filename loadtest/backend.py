"""`python -m loadtest.backend`: a worker that weighs nothing. Law: every request gets the same answer, unread.

It prints `HOST:PORT` when it listens, and ends with its standard input. A call of `grpc.health.v1.Health/Watch`, known
by a message far too short for an inference, is told SERVING and stays open.
"""

from __future__ import annotations

import asyncio
import sys

from loadtest import http2
from loadtest.children import until_parent_ends
from loadtest.payload import answer, prefixed

_SHORT = 128  # bytes
_ANSWER = prefixed(answer())
_SERVING = prefixed(b"\x08\x01")  # HealthCheckResponse(status=SERVING)
_HEADERS = http2.literal([(":status", "200"), ("content-type", "application/grpc")])
_OK = http2.literal([("grpc-status", "0")])
_END = http2.END_HEADERS | http2.END_STREAM


class Backend(http2.Connection):
    """One connection from a proxy. A `status` other than 0 is the grpc-status of every call."""

    def __init__(self, status: int) -> None:
        super().__init__(client=False)
        self._sizes: dict[int, int] = {}
        self._refusal = _HEADERS + http2.literal([("grpc-status", str(status))]) if status else b""

    def on_data(self, stream: int, payload: memoryview) -> None:
        """Count."""
        self._sizes[stream] = self._sizes.get(stream, 0) + len(payload)

    def on_end(self, stream: int, *, reset: bool) -> None:
        """Answer."""
        size = self._sizes.pop(stream, 0)
        headers = http2.frame(http2.HEADERS, http2.END_HEADERS, stream, _HEADERS)
        if reset:
            return
        if size < _SHORT:
            self.send(stream, headers, _SERVING, tail=b"")
        elif self._refusal:
            self.send_frame(http2.frame(http2.HEADERS, _END, stream, self._refusal))
        else:
            self.send(stream, headers, _ANSWER, tail=http2.frame(http2.HEADERS, _END, stream, _OK))


async def _serve(status: int) -> None:
    server = await asyncio.get_running_loop().create_server(lambda: Backend(status), "127.0.0.1", 0)
    host, port = server.sockets[0].getsockname()
    print(f"{host}:{port}", flush=True)  # noqa: T201 - the parent reads it
    await until_parent_ends()


if __name__ == "__main__":
    asyncio.run(_serve(int(sys.argv[1])))
