"""Where a route's calls go. Law: shares are of what the route gets; what no call reaches is told as such."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from mesh.envoy.fixed_clusters import PASSTHROUGH
from mesh.envoy.proto import Json
from mesh.envoy.reading import number, part, parts, text
from mesh.explain import clusters, routes
from mesh.explain.words import Fact

Labels = Mapping[str, str]


@dataclass(frozen=True)
class Copy:
    """A process that calls can go to, as `HOST:PORT`, and its labels."""

    address: str
    labels: Labels


@dataclass(frozen=True)
class Destination:
    """A cluster, and the share of the calls that goes there, 0 to 1. `instead`: what becomes of them without copies."""

    host: str
    subset: str
    share: float
    copies: tuple[Copy, ...]
    instead: str
    facts: tuple[Fact, ...]
    cluster: Json


@dataclass(frozen=True)
class Compiled:
    """What the compiler made beside routes: by names of clusters; and the labels of copies by their addresses."""

    clusters: Mapping[str, Json]
    endpoints: Mapping[str, Json]
    labels: Mapping[str, Labels]


UNKNOWN: Final = (
    "no service has that host and port: in a cluster the sidecar passes the call on to where it was going, "
    "on one machine it ends UNAVAILABLE"
)


def destinations(route: Json, compiled: Compiled) -> tuple[Destination, ...]:
    """Every destination of an envoy.config.route.v3.Route."""
    action = part(route, "route")
    if "cluster" in action:
        return (_destination(text(action, "cluster"), 1.0, (), compiled),)
    weighted = parts(part(action, "weighted_clusters"), "clusters")
    total = sum(number(one, "weight") for one in weighted)
    return tuple(
        _destination(text(one, "name"), number(one, "weight") / total, tuple(routes.edits(one)), compiled)
        for one in weighted
    )


def _destination(name: str, share: float, edits: tuple[Fact, ...], compiled: Compiled) -> Destination:
    cluster = compiled.clusters.get(name, {})
    if name == PASSTHROUGH:
        return Destination(name, "", share, (), UNKNOWN, edits, cluster)
    _, _, subset, host = name.split("|")
    assignment = compiled.endpoints.get(name) or part(cluster, "load_assignment")
    found = [
        _copy(one, compiled.labels) for each in parts(assignment, "endpoints") for one in parts(each, "lb_endpoints")
    ]
    instead = "" if found else f"{_lack(cluster, host, subset)}: these calls end UNAVAILABLE"
    facts = clusters.facts(cluster) if cluster else ()
    return Destination(host, subset, share, tuple(found), instead, (*edits, *facts), cluster)


def _lack(cluster: Json, host: str, subset: str) -> str:
    if not cluster:
        return f"no DestinationRule of {host} has a subset {subset}" if subset else f"no service is {host}"
    return f"no copy of {host} has the labels of subset {subset}" if subset else f"{host} has no copies"


def _copy(lb_endpoint: Json, labels: Mapping[str, Labels]) -> Copy:
    socket = part(lb_endpoint, "endpoint", "address", "socket_address")
    address = place(text(socket, "address"), int(number(socket, "port_value")))
    return Copy(address, labels.get(address, {}))


def place(address: str, port: int) -> str:
    """`HOST:PORT`, an address of IPv6 in brackets."""
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"
