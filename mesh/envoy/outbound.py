"""Calls of a workload. Law: all services of a port share its listener; which of them is meant, the routes say.

Source: Istio's pilot/pkg/networking/core/listener.go and listener_builder.go.
"""

from __future__ import annotations

from mesh.envoy import http_filters, tcp
from mesh.envoy.filter_chains import PLAIN, PLAIN_HTTP, Match
from mesh.envoy.inspectors import HTTP_INSPECTOR
from mesh.envoy.proto import Json, refusal
from mesh.envoy.visible import services
from mesh.istio.proxies import Proxy
from mesh.istio.service_entry import ServicePort
from mesh.istio.sidecar import OutboundMode
from mesh.istio.world import World


def port_listeners(world: World, caller: Proxy) -> list[Json]:
    """A listener for each port of the services that the caller sees, by number."""
    ports: dict[int, ServicePort] = {}
    for service in services(world, caller):
        for port in service.ports:
            if port.number in (tcp.OUTBOUND_PORT, tcp.INBOUND_PORT):
                place = ("ports", service.entry.spec.ports.index(port), "number")
                raise refusal(service.entry, place, f"not implemented: {port.number}, the sidecar's own port")
            ports.setdefault(port.number, port)
    unknown = _unknown(world, caller)
    return [_listener(world, caller, ports[number], unknown) for number in sorted(ports)]


def virtual_outbound(world: World, caller: Proxy) -> Json:
    """The listener for every captured connection of the caller; those to a known port go on to that port's listener."""
    chains: list[Json] = [
        tcp.black_hole("virtualOutbound-blackhole", tcp.OUTBOUND_PORT),
        {"name": "virtualOutbound-catchall-tcp", "filters": [tcp.proxy(_unknown(world, caller))]},
    ]
    return {
        "name": "virtualOutbound",
        "address": tcp.address(tcp.everywhere(caller.ip), tcp.OUTBOUND_PORT),
        "traffic_direction": "OUTBOUND",
        "use_original_dst": True,
        "max_connections_to_accept_per_socket_event": 1,
        "filter_chains": chains,
    }


def _unknown(world: World, caller: Proxy) -> str:
    """The cluster for connections to hosts that no one registered."""
    sidecar = world.sidecar(caller)
    policy = sidecar.spec.outbound_traffic_policy if sidecar is not None else None
    closed = policy is not None and policy.mode is OutboundMode.REGISTRY_ONLY
    return tcp.BLACK_HOLE if closed else tcp.OUTBOUND_PASSTHROUGH


def _listener(world: World, caller: Proxy, port: ServicePort, unknown: str) -> Json:
    everywhere = tcp.everywhere(caller.ip)
    grpc_web = http_filters.speaks_grpc_web(port)
    name = f"{everywhere}_{port.number}"
    chain: Json = {
        "filter_chain_match": Match(PLAIN, PLAIN_HTTP, http=True).json(None),
        "filters": [http_filters.outbound(world, caller, str(port.number), f"outbound_{name};", grpc_web=grpc_web)],
        "transport_socket_connect_timeout": "15s",
    }
    passed_on: Json = {"name": "PassthroughFilterChain", "filter_chain_match": {}, "filters": [tcp.proxy(unknown)]}
    return {
        "name": name,
        "address": tcp.address(everywhere, port.number),
        "bind_to_port": False,
        "traffic_direction": "OUTBOUND",
        "continue_on_listener_filters_timeout": True,
        "filter_chains": [chain],
        "default_filter_chain": passed_on,
        "listener_filters": [HTTP_INSPECTOR],
        "listener_filters_timeout": "0s",
    }
