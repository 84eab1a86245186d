"""The real Jaeger, as deploy/observability/jaeger starts it: `jaeger-all-in-one` from PATH, on free ports."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc.aio
import yaml

from tests.gateway.world import unused_address
from tests.headrace.traces.some import EXPORT

COMPOSE = Path(__file__).parents[2] / "deploy" / "observability" / "jaeger" / "compose.yaml"
_WAIT = 60  # seconds
_OTLP, _PAGE = "collector.otlp.grpc.host-port", "query.http-server.host-port"
_PORTS = (
    *(_OTLP, _PAGE, "admin.http.host-port", "collector.grpc-server.host-port", "collector.http-server.host-port"),
    *("collector.otlp.http.host-port", "http-server.host-port", "query.grpc-server.host-port"),
    *(f"processor.{name}.server-host-port" for name in ("jaeger-binary", "jaeger-compact", "zipkin-compact")),
)


@dataclass(frozen=True)
class Jaeger:
    """Where it takes spans, and where its page and its query API are."""

    otlp: str
    url: str

    def asked(self, path: str, **parameters: str) -> Any:
        """The data of an answer of its API, None where there is none."""
        query = f"?{urllib.parse.urlencode(parameters)}" if parameters else ""
        with contextlib.suppress(urllib.error.HTTPError), urllib.request.urlopen(f"{self.url}{path}{query}") as answer:
            return json.load(answer)["data"]
        return None


@contextlib.contextmanager
def jaeger(folder: Path) -> Iterator[Jaeger]:
    """A Jaeger while inside."""
    service = yaml.safe_load(COMPOSE.read_text())["services"]["jaeger"]
    places = {name: unused_address() for name in _PORTS}
    command = ["jaeger-all-in-one", *service["command"], *(f"--{name}={place}" for name, place in places.items())]
    log = folder / "jaeger.log"
    with log.open("wb") as output:
        child = subprocess.Popen(
            command, env={**os.environ, **service["environment"]}, cwd=folder, stdout=output, stderr=output
        )
    try:
        found = Jaeger(f"http://{places[_OTLP]}", f"http://{places[_PAGE]}")
        _until_up(child, found, log)
        yield found
    finally:
        child.terminate()
        child.wait(_WAIT)


def _until_up(child: subprocess.Popen[bytes], found: Jaeger, log: Path) -> None:
    deadline = time.monotonic() + _WAIT
    while True:
        assert child.poll() is None and time.monotonic() < deadline, log.read_text()
        with contextlib.suppress(OSError):
            found.asked("/api/services")
            return
        time.sleep(0.05)


@contextlib.asynccontextmanager
async def tee(*urls: str) -> AsyncIterator[str]:
    """Where exports are taken and handed on to each of the collectors, byte by byte."""
    async with contextlib.AsyncExitStack() as stack:
        channels = [
            await stack.enter_async_context(grpc.aio.insecure_channel(url.removeprefix("http://"))) for url in urls
        ]

        async def export(body: bytes, context: grpc.aio.ServicerContext) -> bytes:
            answers = [await channel.unary_unary(EXPORT)(body, timeout=10) for channel in channels]
            return answers[0]

        server = grpc.aio.server()
        handlers = {"Export": grpc.unary_unary_rpc_method_handler(export)}
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(EXPORT.split("/")[1], handlers),))
        port = server.add_insecure_port("127.0.0.1:0")
        await server.start()
        try:
            yield f"http://127.0.0.1:{port}"
        finally:
            await server.stop(grace=None)
