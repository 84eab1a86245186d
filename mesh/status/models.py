"""Which models an Envoy routes for, and by what weights. Law: read from the routes in force, and from nothing else.

A route is a model's whose name it matches on `x-model-name`; where a model has its host alone, it is the one that the
VirtualService is called by. What a pin (`x-model-version`) leads to tells which cluster is which version.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from mesh.envoy.proto import Json
from mesh.envoy.reading import number, part, parts, text
from protos.contract import MODEL_NAME, MODEL_VERSION

_STREAM: Final = "/ModelStreamInfer"


@dataclass(frozen=True)
class Version:
    """A version of a model: its cluster, and its weight (percent) among the calls that pin none."""

    name: str
    cluster: str
    weight: float


@dataclass(frozen=True)
class Model:
    """A model, and its versions in the order of the pins."""

    name: str
    versions: tuple[Version, ...]


def models(tables: Sequence[Json]) -> tuple[Model, ...]:
    """The models of envoy.config.route.v3.RouteConfigurations, by name."""
    routes: dict[str, list[Json]] = {}
    for table in tables:
        for host in parts(table, "virtual_hosts"):
            for route in parts(host, "routes"):
                if (name := _model(route)) and "route" in route:
                    routes.setdefault(name, []).append(route)
    return tuple(Model(name, _versions(routes[name])) for name in sorted(routes))


def _versions(routes: Sequence[Json]) -> tuple[Version, ...]:
    pins = {cluster: version for route in routes if (version := _pinned(route)) for cluster, _ in _clusters(route)}
    unpinned = next((route for route in reversed(routes) if not _pinned(route) and not _is_stream(route)), {})
    weights = dict(_clusters(unpinned))
    total = sum(weights.values()) or 1
    names = pins | {cluster: _subset(cluster) for cluster in weights if cluster not in pins}
    return tuple(Version(name, cluster, 100 * weights.get(cluster, 0) / total) for cluster, name in names.items())


def _model(route: Json) -> str:
    """Whose route it is: the model that it names, or else its VirtualService's name; empty: nobody's."""
    named = _exact(route).get(MODEL_NAME)
    if named is not None:
        return named
    config = text(part(route, "metadata", "filter_metadata", "istio"), "config")
    return config.rpartition("/virtual-service/")[2]


def _pinned(route: Json) -> str:
    return _exact(route).get(MODEL_VERSION, "")


def _is_stream(route: Json) -> bool:
    return text(part(route, "match"), "path").endswith(_STREAM)


def _exact(route: Json) -> Mapping[str, str]:
    """The headers that a route wants to be exactly so."""
    matchers = parts(part(route, "match"), "headers")
    return {
        text(one, "name"): text(part(one, "string_match"), "exact")
        for one in matchers
        if "exact" in part(one, "string_match") and not one.get("invert_match")
    }


def _clusters(route: Json) -> Iterator[tuple[str, float]]:
    action = part(route, "route")
    if "cluster" in action:
        yield text(action, "cluster"), 100
    for one in parts(part(action, "weighted_clusters"), "clusters"):
        yield text(one, "name"), number(one, "weight")


def _subset(cluster: str) -> str:
    """What a cluster is called that no pin leads to: `outbound|PORT|SUBSET|HOST`."""
    *_, subset, host = ["", *cluster.split("|")]
    return subset or host.partition(".")[0]
