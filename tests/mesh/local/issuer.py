"""An issuer's web server, in a thread: what it answers at a path can be changed, and it can be away."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler

from tests.gateway.tokens import Issuer
from tests.web import web


class Server:
    """Serves documents by path; `status` is that of every answer, `asked` the paths that were asked for."""

    def __init__(self) -> None:
        self.documents: dict[str, bytes] = {}
        self.status = 200
        self.asked: list[str] = []
        self.address = ""

    def serve(self, issuer: Issuer) -> None:
        """Its keys, and how they are found."""
        self.documents["/jwks"] = issuer.jwks()
        found = {"issuer": issuer.name, "jwks_uri": f"{self.address}/jwks"}
        self.documents["/.well-known/openid-configuration"] = json.dumps(found).encode()


@contextlib.contextmanager
def serving() -> Iterator[Server]:
    made = Server()

    class Answering(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            made.asked.append(self.path)
            body = made.documents.get(self.path)
            self.send_response(404 if body is None else made.status)
            self.end_headers()
            self.wfile.write(body or b"")

    with web(Answering) as made.address:
        yield made
