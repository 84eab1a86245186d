"""A client of an aggregated discovery service that asks as gRPC's does: by name, a type after the other."""

from __future__ import annotations

import contextlib
import queue
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import grpc

from mesh.ads.messages import URL, decode, encode
from mesh.ads.stream import CLUSTER, ENDPOINTS, LISTENER, ROUTES

_STREAM = "/envoy.service.discovery.v3.AggregatedDiscoveryService/StreamAggregatedResources"
_REQUEST = "envoy.service.discovery.v3.DiscoveryRequest"
_RESPONSE = "envoy.service.discovery.v3.DiscoveryResponse"
_PATIENCE = 20.0  # seconds for a whole stream

Ask = Callable[[str, Sequence[str]], list[dict[str, Any]]]


@contextlib.contextmanager
def asking(address: str, node: Mapping[str, object]) -> Iterator[Ask]:
    """While inside: a function that asks for resources of a type by name, and takes what comes."""
    requests: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
    with grpc.insecure_channel(address) as channel:
        responses = channel.stream_stream(_STREAM)(iter(requests.get, None), timeout=_PATIENCE)

        def send(kind: str, names: Sequence[str], **fields: object) -> None:
            request = {"node": node, "type_url": URL + kind, "resource_names": list(names), **fields}
            requests.put(encode(_REQUEST, request))

        def ask(kind: str, names: Sequence[str]) -> list[dict[str, Any]]:
            send(kind, names)
            for message in responses:
                response = decode(_RESPONSE, message)
                if response["type_url"] == URL + kind:
                    send(kind, names, version_info=response["version_info"], response_nonce=response["nonce"])
                    return [_plain(resource) for resource in response.get("resources", ())]
            raise AssertionError("the stream ended")

        try:
            yield ask
        finally:
            requests.put(None)
            for _ in responses:  # until the server has heard all, and ends it
                pass


def resolved(address: str, node: Mapping[str, object], names: Sequence[str], clusters: Sequence[str]) -> dict[str, Any]:
    """All that follows from listeners of these names; `clusters` are asked for beside those of the routes."""
    with asking(address, node) as ask:
        listeners = ask(LISTENER, names)
        routes = ask(ROUTES, [_routes_of(one) for one in listeners])
        wanted = sorted({*clusters, *(name for one in routes for name in _clusters_of(one))})
        found = ask(CLUSTER, wanted)
        endpoints = ask(ENDPOINTS, [one["name"] for one in found])
    return {"listeners": listeners, "routes": routes, "clusters": found, "endpoints": endpoints}


def _plain(resource: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in resource.items() if name != "@type"}


def _routes_of(listener: Mapping[str, Any]) -> str:
    return str(listener["api_listener"]["api_listener"]["rds"]["route_config_name"])


def _clusters_of(table: Mapping[str, Any]) -> Iterator[str]:
    for host in table.get("virtual_hosts", ()):
        for route in host.get("routes", ()):
            action = route.get("route", {})
            yield from [action["cluster"]] if "cluster" in action else []
            yield from (one["name"] for one in action.get("weighted_clusters", {}).get("clusters", ()))
