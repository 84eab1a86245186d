"""A sidecar's routes. Law: one RouteConfiguration for each port that a service it sees listens on.

The route configuration of a port is named after its number, as Istio names it. Source: Istio's httproute.go.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from mesh.envoy.actions import Bound, Directory, default_action, grpc_timeout, passthrough_action
from mesh.envoy.destination_rules import rule_for
from mesh.envoy.hash_policies import hash_of_destination, hash_of_service
from mesh.envoy.http_routes import http_routes
from mesh.envoy.matches import EVERY_PATH
from mesh.envoy.proto import Json, outbound
from mesh.envoy.registry import HTTP_PORT, concerned, narrowest, services_of_port, split
from mesh.envoy.route_refusals import refuse_routes
from mesh.envoy.virtual_hosts import Claim, virtual_host, virtual_hosts
from mesh.envoy.visible import Service, imported, services, virtual_services
from mesh.istio.http_route import Destination
from mesh.istio.load_balancer import ConsistentHashLB
from mesh.istio.names import qualified
from mesh.istio.proxies import Proxy
from mesh.istio.sidecar import OutboundMode
from mesh.istio.world import World

_LARGEST_DIRECT_RESPONSE: Final = 2**20  # bytes
_PASSTHROUGH_CLUSTER: Final = "PassthroughCluster"


def routes(world: World, proxy: Proxy) -> list[dict[str, object]]:
    """Each envoy.config.route.v3.RouteConfiguration of a sidecar's outbound calls, by port. Raises RefusedError."""
    refuse_routes(world)
    ports = sorted({port.number for service in imported(world, proxy) for port in service.ports})
    return [_route_configuration(world, proxy, port) for port in ports]


def _route_configuration(world: World, proxy: Proxy, port: int) -> Json:
    hosts = virtual_hosts(claims(world, proxy, port, grpc_timeout), port, proxy.namespace)
    return {
        "name": str(port),
        "virtual_hosts": [*hosts, _everything_else(world, proxy)],
        "validate_clusters": False,
        "max_direct_response_body_size_bytes": _LARGEST_DIRECT_RESPONSE,
        "ignore_port_in_host_matching": True,
    }


def claims(world: World, proxy: Proxy, port: int, bound: Bound) -> Iterator[Claim]:
    """What each VirtualService routes for, and then every service that none routes for.

    `bound` is how this caller is told of a VirtualService's timeouts.
    """
    seen, policies = imported(world, proxy), virtual_services(world, proxy)
    registry, best = services_of_port(seen, port), narrowest(seen, policies)
    routed: set[str] = set()
    for resource in policies:
        if port != HTTP_PORT and not concerned(resource, registry):
            continue
        found = http_routes(resource, proxy, port, _directory(world, proxy, resource.namespace, port, bound))
        others, own = split(resource, registry, best)
        if found and (own or port == HTTP_PORT):
            routed.update(service.host.lower() for service in own)
            yield Claim(others, own, found)
    for host, service in registry.items():
        if host not in routed:
            yield Claim((), (service,), [_service_route(world, proxy, service, port)])


def _directory(world: World, proxy: Proxy, namespace: str, port: int, bound: Bound) -> Directory:
    """How the destinations of a VirtualService in a namespace are found."""
    namespaces = {service.host: service.namespace for service in services(world, proxy)}

    def cluster_of(destination: Destination) -> str:
        host = qualified(destination.host, namespace)
        return outbound(destination.port.number if destination.port else port, host, destination.subset)

    def hash_of(destination: Destination) -> ConsistentHashLB | None:
        host = qualified(destination.host, namespace)
        rule = rule_for(world, host, namespaces[host], proxy) if host in namespaces else None
        return hash_of_destination(rule.spec, destination) if rule else None

    return Directory(cluster_of, hash_of, bound)


def _service_route(world: World, proxy: Proxy, service: Service, port: int) -> Json:
    rule = rule_for(world, service.host, service.namespace, proxy)
    host = service.host.lower()
    action = default_action(outbound(port, host), hash_of_service(rule.spec, port) if rule else None)
    return _default(host, port, action)


def _default(host: str, port: int, action: Json) -> Json:
    return {
        "name": "default",
        "match": dict(EVERY_PATH),
        "route": action,
        "decorator": {"operation": f"{host}:{port}/*"},
    }


def _everything_else(world: World, proxy: Proxy) -> Json:
    """Calls for hosts that no one registered: they pass, unless the Sidecar allows registered hosts alone."""
    sidecar = world.sidecar(proxy)
    policy = sidecar.spec.outbound_traffic_policy if sidecar else None
    if policy and policy.mode is OutboundMode.REGISTRY_ONLY:
        return _for_all("block_all", direct_response={"status": 502})
    return _for_all("allow_any", route=passthrough_action(_PASSTHROUGH_CLUSTER))


def _for_all(name: str, **action: Json) -> Json:
    return virtual_host(name, ["*"], [{"name": name, "match": dict(EVERY_PATH), **action}])
