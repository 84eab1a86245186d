"""The listeners that gRPC's client asks for. Law: one for each name by which a service's port may be called.

Source: Istio's buildOutboundListeners in pilot/pkg/networking/grpcgen/lds.go.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from mesh.envoy.domains import single
from mesh.envoy.faults import FAULT_FILTER
from mesh.envoy.proto import HTTP_CONNECTION_MANAGER, ROUTER, ROUTER_FILTER, Json, named, outbound, typed
from mesh.envoy.visible import Service, services
from mesh.istio.proxies import Proxy
from mesh.istio.world import World

_HTTP: Final = "envoy.extensions.filters.http"
_UNSPECIFIED: Final = "0.0.0.0"  # noqa: S104 - told of a service without an address, never bound
_FILTERS: Final = (
    named(FAULT_FILTER, f"{_HTTP}.fault.v3.HTTPFault"),
    named(ROUTER_FILTER, ROUTER),
)


def listeners(world: World, proxy: Proxy) -> list[Json]:
    """envoy.config.listener.v3.Listener of every `HOST:PORT` that a caller may name."""
    return [
        _listener(name, service, port.number)
        for service in services(world, proxy)
        for port in service.ports
        for name in _names(service.host, proxy.namespace)
    ]


def _names(host: str, namespace: str) -> Iterator[str]:
    """The host, and for callers of its namespace the short names that Kubernetes gives it (Istio's tryFindFQDN)."""
    yield host
    name = host.removesuffix(f".{namespace}.svc.cluster.local")
    if name != host:
        if "." not in name:
            yield name
        yield f"{name}.{namespace}"
        yield f"{name}.{namespace}.svc"


def _listener(name: str, service: Service, port: int) -> Json:
    """The address is of no use to gRPC. Of several, Istio tells now one, now another."""
    address, *_ = (*map(single, service.entry.spec.addresses), _UNSPECIFIED)
    routes: Json = {"config_source": {"ads": {}}, "route_config_name": outbound(port, service.host)}
    manager = typed(HTTP_CONNECTION_MANAGER, rds=routes, http_filters=list(_FILTERS))
    return {
        "name": f"{name}:{port}",
        "address": {"socket_address": {"address": address, "port_value": port}},
        "api_listener": {"api_listener": manager},
    }
