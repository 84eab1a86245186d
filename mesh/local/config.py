"""What one sidecar of a mesh on one machine does. Law: as in a cluster, but for what only captured connections have.

Nothing is captured: calls come to the sidecar's own ports and to its one outbound listener, and what no service names
has no original destination to be passed on to. A plain Envoy has none of Istio's own filters. Endpoints are in their
clusters: for every file that it watches, Envoy takes an inotify instance, of which Linux gives a user 128.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from ipaddress import ip_address
from typing import Final

from mesh.envoy.clusters import clusters
from mesh.envoy.endpoints import endpoints
from mesh.envoy.fixed_clusters import BLACK_HOLE, INBOUND_PASSTHROUGH, PASSTHROUGH
from mesh.envoy.inbound import workload_listeners
from mesh.envoy.proto import Json
from mesh.envoy.routes import routes
from mesh.istio.world import World
from mesh.local import outbound
from mesh.local.workloads import Workload

_CAPTURED: Final = frozenset({BLACK_HOLE, PASSTHROUGH, INBOUND_PASSTHROUGH})
_OF_CAPTURED: Final = frozenset({"lb_policy", "cleanup_interval", "common_lb_config"})


@dataclass(frozen=True)
class Config:
    """Clusters, routes and listeners in proto JSON; the sources of routes and secrets are those that Istio writes."""

    clusters: tuple[Json, ...]
    routes: Json
    listeners: tuple[Json, ...]


def config(world: World, workload: Workload, calls_at: Sequence[tuple[str, int]]) -> Config:
    """The configuration of a workload's sidecar in a world of placed workloads. Raises RefusedError.

    `calls_at`: where (IP, port) the process finds the sidecar for calls of its own.
    """
    proxy = workload.proxy
    return Config(
        clusters=tuple(_clusters(world, workload)),
        routes=outbound.route_configuration(routes(world, proxy)),
        listeners=(outbound.listener(world, proxy, calls_at), *workload_listeners(world, proxy)),
    )


def reconnected(config: Config, marks: Mapping[str, int]) -> Config:
    """The same, by connections to an address that were not made under another mark of that address.

    Envoy makes clusters anew that differ in their metadata.
    """
    return replace(config, clusters=tuple(_marked(cluster, marks) for cluster in config.clusters))


def _marked(cluster: Json, marks: Mapping[str, int]) -> Json:
    if not str(cluster["name"]).startswith("outbound|"):
        return cluster
    there = {each: marks[each] for each in _addresses(cluster.get("load_assignment", {})) if each in marks}
    if not there:
        return cluster
    metadata = cluster["metadata"]
    assert isinstance(metadata, dict)  # noqa: S101 - as mesh.envoy.clusters makes it
    own = {"headrace": {"connections": there}}
    return {**cluster, "metadata": {**metadata, "filter_metadata": {**metadata["filter_metadata"], **own}}}


def _clusters(world: World, workload: Workload) -> Iterator[Json]:
    assignments = {assignment["cluster_name"]: assignment for assignment in endpoints(world, workload.proxy)}
    for cluster in clusters(world, workload.proxy):
        name = str(cluster["name"])
        plain = {field: value for field, value in cluster.items() if field != "filters"}  # Istio's own
        if name.startswith("inbound|"):
            yield _to_process(plain, name, workload.process)
        elif name in assignments:
            yield _to_copies(plain, assignments[name], workload.proxy.ip)
        elif name not in _CAPTURED:
            yield _by_dns(plain)


def _to_copies(cluster: Json, assignment: Json, sidecar: str) -> Json:
    """The cluster of a service's copies, who see the sidecar's address as they see a pod's."""
    kept = {field: value for field, value in cluster.items() if field != "eds_cluster_config"}
    found: Json = {"type": "STATIC", "load_assignment": assignment}
    if all(ip_address(copy).is_loopback for copy in _addresses(assignment)):  # from where no one else can be reached
        found["upstream_bind_config"] = {"source_address": {"address": sidecar, "port_value": 0}}
    return {**kept, **found}


def _by_dns(cluster: Json) -> Json:
    """A cluster found by DNS, which answers or fails soon: a change waits for it."""
    resolver = cluster["typed_dns_resolver_config"]
    assert isinstance(resolver, dict)  # noqa: S101 - as mesh.envoy.clusters makes it
    patience = {"query_timeout_seconds": 1, "query_tries": 2}
    return {
        **cluster,
        "typed_dns_resolver_config": {**resolver, "typed_config": {**resolver["typed_config"], **patience}},
    }


def _addresses(part: object) -> Iterable[str]:
    """The address of every endpoint in a part of an assignment."""
    if isinstance(part, dict):
        return [str(part["address"])] if "port_value" in part else _addresses([*part.values()])
    return [address for item in part for address in _addresses(item)] if isinstance(part, list) else []


def _to_process(cluster: Json, name: str, process: str) -> Json:
    """The cluster of a port of the process, which listens there, and not where the call was for."""
    port = int(name.split("|")[1])
    address: Json = {"socket_address": {"address": process, "port_value": port}}
    assignment: Json = {"cluster_name": name, "endpoints": [{"lb_endpoints": [{"endpoint": {"address": address}}]}]}
    kept = {field: value for field, value in cluster.items() if field not in _OF_CAPTURED}
    if not ip_address(process).is_loopback:
        del kept["upstream_bind_config"]  # Istio's 127.0.0.6 reaches the loopback alone
    return {**kept, "type": "STATIC", "load_assignment": assignment}
