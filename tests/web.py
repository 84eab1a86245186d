"""A web server in a thread, on a free port. Law: it is over however the block ends.

One whose socket is closed under it spins for ever, and pytest waits for its thread.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

_LOOK = 0.01  # seconds until it sees that it is over


@contextlib.contextmanager
def web(handler: type[BaseHTTPRequestHandler]) -> Iterator[str]:
    """The URL at which a handler answers; what it is asked it does not log."""

    class Quiet(handler):
        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Quiet) as server:
        thread = threading.Thread(target=server.serve_forever, args=(_LOOK,), name="web")
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()
