"""The server. Law: a node is told what was last published for it, and whoever publishes hears what it says to that.

Only the state of the world: `StreamAggregatedResources` of envoy.service.discovery.v3.AggregatedDiscoveryService.
"""

from __future__ import annotations

import asyncio
import contextlib
import enum
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from typing import Any, Final

import grpc
import grpc.aio

from mesh.ads.messages import URL, decode, encode
from mesh.ads.stream import CLUSTER, ENDPOINTS, LISTENER, ROUTES, Answer, Asked, Published, Resource, Stream, Verdict

Told = Callable[[Verdict], None]


class _News(enum.Enum):
    """What a stream is woken by, beside its client's requests."""

    PUBLISHED = enum.auto()
    GONE = enum.auto()


_Inbox = asyncio.Queue[Asked | _News]

_SERVICE: Final = "envoy.service.discovery.v3.AggregatedDiscoveryService"
_REQUEST: Final = "envoy.service.discovery.v3.DiscoveryRequest"
_RESPONSE: Final = "envoy.service.discovery.v3.DiscoveryResponse"
PARTS: Final[Mapping[str, tuple[str, str]]] = {
    "listeners": (LISTENER, "name"),
    "routes": (ROUTES, "name"),
    "clusters": (CLUSTER, "name"),
    "endpoints": (ENDPOINTS, "cluster_name"),
}
"""Part of a configuration -> its type, and the field that holds a resource's name."""


class Ads:
    """Nodes' configurations, and the streams of those who ask. Its methods are for the server's event loop alone."""

    def __init__(self, told: Told) -> None:
        self.address = ""
        self._told = told
        self._published: dict[str, Published] = {}  # by node
        self._inboxes: set[_Inbox] = set()
        self._versions = 0

    def publish(self, node: str, configuration: Mapping[str, Sequence[Resource]]) -> None:
        """From now on this is what the node of that id is told; its streams are told what changed.

        `configuration`: listeners, routes, clusters and endpoints in proto JSON with proto field names. ValueError: it
        holds something that xDS has not; then what was published before stays.
        """
        resources: dict[str, dict[str, Resource]] = {}
        for part, found in configuration.items():
            kind, name = PARTS[part]
            for one in found:
                encode(kind, one)
            resources[kind] = {str(one[name]): one for one in found}
        self._versions += 1
        self._published[node] = Published(str(self._versions), resources)
        for inbox in self._inboxes:
            inbox.put_nowait(_News.PUBLISHED)

    async def serve(self, requests: AsyncIterator[bytes], _context: object) -> AsyncIterator[bytes]:
        """One stream, until its client has gone."""
        stream = Stream()
        inbox: _Inbox = asyncio.Queue()
        self._inboxes.add(inbox)
        reading = asyncio.create_task(_read(requests, inbox))
        try:
            while (news := await inbox.get()) is not _News.GONE:
                if isinstance(news, Asked) and (verdict := stream.hear(news)) is not None:
                    self._told(verdict)
                if (published := self._published.get(stream.node)) is not None:
                    for answer in stream.tell(published):
                        yield _response(answer)
            await reading
        finally:
            self._inboxes.discard(inbox)
            reading.cancel()


@contextlib.asynccontextmanager
async def serving(address: str, told: Told) -> AsyncIterator[Ads]:
    """The server, while inside, at HOST:PORT, in plain text; `told` is called with every verdict.

    Raises RuntimeError where it cannot listen there. With port 0, `Ads.address` says which port was given.
    """
    ads = Ads(told)
    # Clients ping a quiet stream, and are not to be sent away for it.
    server = grpc.aio.server(
        options=[("grpc.so_reuseport", 0), ("grpc.http2.min_ping_interval_without_data_ms", 10_000)]
    )
    methods: dict[str, grpc.RpcMethodHandler[Any, Any]] = {
        "StreamAggregatedResources": grpc.stream_stream_rpc_method_handler(ads.serve)
    }
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(_SERVICE, methods),))
    ads.address = f"{address.rpartition(':')[0]}:{server.add_insecure_port(address)}"
    await server.start()
    try:
        yield ads
    finally:
        await server.stop(None)


async def _read(requests: AsyncIterator[bytes], inbox: _Inbox) -> None:
    try:
        async for request in requests:
            inbox.put_nowait(_asked(decode(_REQUEST, request)))
    finally:
        inbox.put_nowait(_News.GONE)


def _asked(request: Mapping[str, Any]) -> Asked:
    refused = request.get("error_detail")
    return Asked(
        node=request.get("node", {}).get("id", ""),
        type=request.get("type_url", "").removeprefix(URL),
        names=frozenset(request.get("resource_names", ())),
        nonce=request.get("response_nonce", ""),
        error=None if refused is None else refused.get("message", ""),
    )


def _response(answer: Answer) -> bytes:
    url = URL + answer.type
    resources = [{"@type": url, **resource} for resource in answer.resources.values()]
    written = {"version_info": answer.version, "nonce": answer.nonce, "type_url": url, "resources": resources}
    return encode(_RESPONSE, written)
