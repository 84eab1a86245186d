"""Calls to a workload. Law: a port of its services has chains of its own; any other is passed on, and guarded alike.

Source: Istio's pilot/pkg/networking/core/listener_inbound.go.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from mesh.envoy import copies, filter_chains, http_filters, mtls, proto, rbac, tcp
from mesh.envoy.filter_chains import Match
from mesh.envoy.inspectors import ANY_PORT, ORIGINAL_DESTINATION, inspectors
from mesh.envoy.proto import Json, message, refusal
from mesh.envoy.visible import Service
from mesh.istio.proxies import Proxy
from mesh.istio.service_entry import ServicePort
from mesh.istio.world import World


@dataclass(frozen=True)
class Target:
    """A port that a workload listens on, and the port of the service that it serves there."""

    number: int
    service: Service
    port: ServicePort


def targets(world: World, workload: Proxy) -> tuple[Target, ...]:
    """The workload's ports by number: those of its namespace's services with a copy at its address; the oldest's first.

    RefusedError: a port is one of the sidecar's own.
    """
    found: dict[int, Target] = {}
    for service, port, copy in copies.targets(world, workload.ip, workload.namespace):
        if copy.port in (tcp.OUTBOUND_PORT, tcp.INBOUND_PORT):
            place = ("ports", service.entry.spec.ports.index(port))
            raise refusal(service.entry, place, f"not implemented: {copy.port}, the sidecar's own port")
        found.setdefault(copy.port, Target(copy.port, service, port))
    return tuple(found[number] for number in sorted(found))


def virtual_inbound(world: World, workload: Proxy) -> Json:
    """The listener for every captured connection to the workload."""
    modes = mtls.modes(world, workload)
    ports = targets(world, workload)
    unnamed = [ANY_PORT, *sorted(modes.ports.keys() - {target.number for target in ports})]
    matches: dict[int, Sequence[Match]] = {tcp.INBOUND_PORT: ()}
    matches |= {port: filter_chains.for_any(modes.of(port)) for port in unnamed}
    matches |= {target.number: filter_chains.for_http(modes.of(target.number)) for target in ports}
    chains = [tcp.black_hole("virtualInbound-blackhole", tcp.INBOUND_PORT)]
    chains += [_passed_on(world, workload, match, port) for port in unnamed for match in matches[port]]
    chains += [_served(world, workload, match, one, one.number) for one in ports for match in matches[one.number]]
    filters = [ORIGINAL_DESTINATION, *inspectors(matches)]
    return _listener("virtualInbound", tcp.address(tcp.everywhere(workload.ip), tcp.INBOUND_PORT), chains, filters)


def workload_listeners(world: World, workload: Proxy) -> list[Json]:
    """For a machine that captures nothing: a listener `inbound|PORT` at the workload's own address for each port."""
    modes = mtls.modes(world, workload)
    listeners = []
    for target in targets(world, workload):
        matches = filter_chains.for_http(modes.of(target.number))
        chains = [_served(world, workload, match, target, None) for match in matches]
        address = tcp.address(workload.ip, target.number)
        filters = inspectors({ANY_PORT: matches})
        listeners.append(_listener(f"inbound|{target.number}", address, chains, filters))
    return listeners


def _listener(name: str, address: Json, chains: list[Json], filters: list[Json]) -> Json:
    return message(
        name=name,
        address=address,
        traffic_direction="INBOUND",
        continue_on_listener_filters_timeout=True,
        max_connections_to_accept_per_socket_event=1,
        filter_chains=chains,
        listener_filters=filters or None,
        listener_filters_timeout="0s",
    )


def _served(world: World, workload: Proxy, match: Match, target: Target, port: int | None) -> Json:
    """A chain to the workload's own port, for connections to `port` (None: all that the listener gets)."""
    name = f"{tcp.everywhere(workload.ip)}_{target.number}"
    routes = _routes(proto.inbound(target.number), target.port, f"{target.service.host}:{target.port.number}")
    manager = http_filters.inbound(world, workload, target.port, routes, f"inbound_{name};")
    return _chain(world, name, match, port, [manager])


def _passed_on(world: World, workload: Proxy, match: Match, port: int) -> Json:
    """A chain to whatever port the connection was for."""
    cluster = tcp.INBOUND_PASSTHROUGH
    number = port or None
    if match.http:
        manager = http_filters.inbound(world, workload, None, _routes(cluster, None, ":0"), f"{cluster};")
        return _chain(world, "virtualInbound-catchall-http", match, number, [manager])
    return _chain(world, "virtualInbound", match, number, [*rbac.network_filters(world, workload), tcp.proxy(cluster)])


def _chain(world: World, name: str, match: Match, port: int | None, filters: list[Json]) -> Json:
    socket = mtls.transport_socket(world) if match.terminates else None
    return message(name=name, filter_chain_match=match.json(port), filters=filters, transport_socket=socket)


def _routes(cluster: str, port: ServicePort | None, operation: str) -> Json:
    """One route for every call, with no limit of time. Calls of gRPC are never sent twice here."""
    retries: Mapping[str, object] = {"retry_on": "reset-before-request", "num_retries": 2}
    action = message(
        cluster=cluster,
        timeout="0s",
        max_stream_duration={"max_stream_duration": "0s", "grpc_timeout_header_max": "0s"},
        retry_policy=None if port is not None and port.protocol.lower().startswith("grpc") else retries,
    )
    decorator = {"operation": f"{operation}/*"}
    route: Json = {"name": "default", "match": {"prefix": "/"}, "decorator": decorator, "route": action}
    number = port.number if port is not None else 0
    host: Json = {"name": f"inbound|http|{number}", "domains": ["*"], "routes": [route]}
    return {"name": cluster, "validate_clusters": False, "virtual_hosts": [host]}
