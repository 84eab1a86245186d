"""A call explained. Law: the routes of its virtual host are tried in order; the first with no unmet condition wins."""

from __future__ import annotations

from dataclasses import dataclass

from mesh.envoy.clusters import clusters
from mesh.envoy.copies import copies
from mesh.envoy.endpoints import endpoints
from mesh.envoy.proto import Json
from mesh.envoy.reading import part, parts, text
from mesh.envoy.routes import routes
from mesh.envoy.visible import services
from mesh.explain import routes as route_words
from mesh.explain.destinations import Compiled, Destination, destinations, place
from mesh.explain.hosts import virtual_host
from mesh.explain.matcher import Headers, unmet
from mesh.explain.words import Fact
from mesh.istio.proxies import Proxy
from mesh.istio.world import World


@dataclass(frozen=True)
class Tried:
    """A route, and the conditions that the call does not meet."""

    name: str
    unmet: tuple[str, ...]


@dataclass(frozen=True)
class Winner:
    """The route that a call gets: where it is written (`FILE:LINE`), what it means, and Envoy's own JSON of it."""

    name: str
    source: str
    facts: tuple[Fact, ...]
    destinations: tuple[Destination, ...]
    route: Json


@dataclass(frozen=True)
class Explanation:
    """What becomes of a call. Without a winner the sidecar itself answers 404, which gRPC reads as UNIMPLEMENTED.

    With `unknown` there are no routes to try: no service has the port.
    """

    caller: Proxy
    call: Headers
    tried: tuple[Tried, ...]
    winner: Winner | None
    unknown: bool = False


def explain(world: World, caller: Proxy, call: Headers) -> Explanation:
    """What the sidecar of a caller does with a call to `:authority`, HOST:PORT. RefusedError: cannot be compiled."""
    (authority,) = call[":authority"]
    port = authority.rpartition(":")[2]
    table = next((one for one in routes(world, caller) if one["name"] == port), None)
    if table is None:
        return Explanation(caller, call, (), None, unknown=True)
    host = virtual_host(table, authority) or {}
    tried: list[Tried] = []
    for index, route in enumerate(parts(host, "routes")):
        name = text(route, "name") or f"http[{index}]"
        if not (conditions := unmet(part(route, "match"), call)):
            return Explanation(caller, call, tuple(tried), _winner(world, caller, name, route))
        tried.append(Tried(name, conditions))
    return Explanation(caller, call, tuple(tried), None)


def _winner(world: World, caller: Proxy, name: str, route: Json) -> Winner:
    compiled = Compiled(
        clusters={text(one, "name"): one for one in clusters(world, caller)},
        endpoints={text(one, "cluster_name"): one for one in endpoints(world, caller)},
        labels={
            place(copy.address, copy.port): copy.labels
            for service in services(world, caller)
            for port in service.ports
            for copy in copies(world, service, port)
        },
    )
    facts = tuple(route_words.facts(route))
    return Winner(name, _source(world, route), facts, destinations(route, compiled), route)


def _source(world: World, route: Json) -> str:
    """Where the VirtualService of a route is written; empty: Istio's own, as there is none."""
    config = text(part(route, "metadata", "filter_metadata", "istio"), "config")
    for resource in world.virtual_services:
        if config.endswith(f"/namespaces/{resource.namespace}/virtual-service/{resource.name}"):
            return resource.position
    return ""
