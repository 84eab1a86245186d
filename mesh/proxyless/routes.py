"""The routes that gRPC's client asks for. Law: those for one host alone, under the name of its cluster.

A client looks up what it calls as it was told to call it, port and all. Source: Istio's BuildHTTPRoutes in
pilot/pkg/networking/grpcgen/rds.go.
"""

from __future__ import annotations

from collections.abc import Iterable

from mesh.envoy.proto import Json, message, outbound
from mesh.envoy.routes import claims
from mesh.envoy.virtual_hosts import virtual_hosts
from mesh.envoy.visible import services
from mesh.istio.names import is_wildcard, matches
from mesh.istio.proxies import Proxy
from mesh.istio.world import World


def routes(world: World, proxy: Proxy) -> list[Json]:
    """envoy.config.route.v3.RouteConfiguration of every port of every service that a caller may call."""
    seen = services(world, proxy)
    ports = {port.number for service in seen for port in service.ports}
    hosts = {
        port: virtual_hosts(claims(world, proxy, port, _bound), port, proxy.namespace, with_port=True) for port in ports
    }
    return [
        _route_configuration(service.host, port.number, hosts[port.number])
        for service in seen
        for port in service.ports
    ]


def _route_configuration(host: str, port: int, hosts: list[Json]) -> Json:
    found = [one for one in hosts if any(_names(domain, host.lower(), port) for domain in _domains(one))]
    return message(name=outbound(port, host), virtual_hosts=found or None)


def _bound(timeout: str) -> Json:
    """For gRPC's client, which reads `max_stream_duration` alone."""
    return {"timeout": timeout, "max_stream_duration": {"max_stream_duration": timeout}}


def _domains(host: Json) -> Iterable[str]:
    found = host["domains"]
    return map(str, found) if isinstance(found, list) else ()


def _names(domain: str, host: str, port: int) -> bool:
    """Whether a domain is a host's, with its port or without any."""
    name, _, of = domain.lower().partition(":")
    return of in ("", str(port)) and (matches(name, host) if is_wildcard(name) else name == host)
