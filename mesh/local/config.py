"""What one sidecar of a mesh on one machine does. Law: as in a cluster, but for what only captured connections have.

Nothing is captured: calls come to the sidecar's own ports and to its one outbound listener, and what no service names
has no original destination to be passed on to. A plain Envoy has none of Istio's own filters.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Final

from mesh.envoy.clusters import clusters
from mesh.envoy.endpoints import endpoints
from mesh.envoy.fixed_clusters import BLACK_HOLE, INBOUND_PASSTHROUGH, PASSTHROUGH
from mesh.envoy.inbound import workload_listeners
from mesh.envoy.proto import Json
from mesh.envoy.routes import routes
from mesh.envoy.visible import services
from mesh.istio.world import World
from mesh.local import outbound
from mesh.local.workloads import Workload

_CAPTURED: Final = frozenset({BLACK_HOLE, PASSTHROUGH, INBOUND_PASSTHROUGH})
_OF_CAPTURED: Final = frozenset({"lb_policy", "cleanup_interval", "common_lb_config"})


@dataclass(frozen=True)
class Config:
    """Clusters, endpoints, routes and listeners in proto JSON; their sources are those that Istio writes."""

    clusters: tuple[Json, ...]
    endpoints: tuple[Json, ...]
    routes: tuple[Json, ...]
    listeners: tuple[Json, ...]


def config(world: World, workload: Workload, calls_at: Sequence[tuple[str, int]]) -> Config:
    """The configuration of a workload's sidecar in a world of placed workloads. Raises RefusedError.

    `calls_at`: where (IP, port) the process finds the sidecar for calls of its own.
    """
    proxy = workload.proxy
    return Config(
        clusters=tuple(_clusters(world, workload)),
        endpoints=tuple(endpoints(world, proxy)),
        routes=(outbound.route_configuration(routes(world, proxy)),),
        listeners=(outbound.listener(services(world, proxy), calls_at), *workload_listeners(world, proxy)),
    )


def _clusters(world: World, workload: Workload) -> Iterator[Json]:
    for cluster in clusters(world, workload.proxy):
        name = str(cluster["name"])
        plain = {field: value for field, value in cluster.items() if field != "filters"}  # Istio's own
        if name.startswith("inbound|"):
            yield _to_process(plain, name, workload.process)
        elif name not in _CAPTURED:
            yield plain


def _to_process(cluster: Json, name: str, process: str) -> Json:
    """The cluster of a port of the process, which listens there, and not where the call was for."""
    port = int(name.split("|")[1])
    address: Json = {"socket_address": {"address": process, "port_value": port}}
    assignment: Json = {"cluster_name": name, "endpoints": [{"lb_endpoints": [{"endpoint": {"address": address}}]}]}
    kept = {field: value for field, value in cluster.items() if field not in _OF_CAPTURED}
    if not ip_address(process).is_loopback:
        del kept["upstream_bind_config"]  # Istio's 127.0.0.6 reaches the loopback alone
    return {**kept, "type": "STATIC", "load_assignment": assignment}
