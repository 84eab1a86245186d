"""Calls of a process that nothing captures. Law: one listener for all ports; the port in a call's authority decides.

Where connections are captured, the port that a connection was for chooses the table of routes. Here there is no such
port: the tables of all ports are one, whose domains name their port.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

from mesh.envoy import http_filters, tcp
from mesh.envoy.proto import Json
from mesh.envoy.virtual_hosts import virtual_host
from mesh.envoy.visible import services
from mesh.istio.proxies import Proxy
from mesh.istio.world import World

NAME: Final = "outbound"
"""The listener, and the route configuration behind it."""

_HTTP: Final = "80"
_EVERY: Final = ["*"]


def listener(world: World, caller: Proxy, addresses: Sequence[tuple[str, int]]) -> Json:
    """envoy.config.listener.v3.Listener at the addresses (IP, port), for calls to the services that the caller sees."""
    first, *more = [tcp.address(*address) for address in addresses]
    grpc_web = any(http_filters.speaks_grpc_web(port) for service in services(world, caller) for port in service.ports)
    return {
        "name": NAME,
        "address": first,
        "additional_addresses": [{"address": address} for address in more],
        "traffic_direction": "OUTBOUND",
        "filter_chains": [{"filters": [http_filters.outbound(world, caller, NAME, f"{NAME};", grpc_web=grpc_web)]}],
    }


def route_configuration(tables: Sequence[Json]) -> Json:
    """One envoy.config.route.v3.RouteConfiguration of those of all ports, each named after its port."""
    unknown = "no service of this mesh has that host and port"
    answer: Json = {"direct_response": {"status": 502, "body": {"inline_string": unknown}}}
    nowhere = virtual_host("unknown", _EVERY, [{"name": "unknown", "match": {"prefix": "/"}, **answer}])
    return {
        "name": NAME,
        "virtual_hosts": [*(host for table in tables for host in _hosts(table)), nowhere],
        "validate_clusters": False,
        "max_direct_response_body_size_bytes": tables[0]["max_direct_response_body_size_bytes"] if tables else None,
    }


def _hosts(table: Json) -> Iterator[Json]:
    """The virtual hosts of a port's table, but for the one that takes all other calls: these cannot be passed on."""
    port, hosts = str(table["name"]), table["virtual_hosts"]
    assert isinstance(hosts, list)  # noqa: S101 - as mesh.envoy.routes makes it
    for host in hosts:
        if host["domains"] != _EVERY:
            yield {**host, "domains": [*_with_port(host["domains"], port)]}


def _with_port(domains: Sequence[str], port: str) -> Iterator[str]:
    for domain in domains:
        yield f"{domain}:{port}"
        if port == _HTTP:
            yield domain
