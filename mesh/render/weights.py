"""Weights that live in the files. Law: `traffic` is where weights start; from then on, what the routes say stays.

A route keeps its weights for as long as its model has the same versions, whichever file it stands in.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from mesh.catalog import Model
from mesh.istio.document import read_documents
from mesh.istio.resource import read_resource
from mesh.istio.virtual_service import VirtualService
from mesh.render.services import Service, default_routes

Live = Mapping[tuple[str, str], Mapping[str, int]]
"""(host, name of a default route) -> version -> weight."""


def live(files: Mapping[str, str]) -> Live:
    """The weights in files that were rendered before: name -> text. Raises RefusedError for routes that are broken."""
    return {
        (spec.hosts[0], route.name): {_version(one.destination.subset): one.weight for one in route.route}
        for spec in _virtual_services(files)
        for route in spec.http
        if len(route.route) > 1
    }


def of_route(model: Model, host: str, route: str, live: Live) -> Mapping[str, int]:
    """Version -> weight of a default route, in the catalog's order."""
    start = starting(model)
    found = live.get((host, route), {})
    return {version: found[version] for version in start} if found.keys() == start.keys() else start


def shifted(services: Iterable[Service], live: Live) -> Mapping[str, Mapping[str, int]]:
    """Model -> weights of its default route, where they are no longer those that `traffic` gives."""
    models = [(model, service.host) for service in services for model in service.models]
    found = [(model, of_route(model, host, route, live)) for model, host in models for route in default_routes(model)]
    return {model.name: weights for model, weights in found if weights != starting(model)}


def starting(model: Model) -> Mapping[str, int]:
    """Version -> the weight that `traffic` gives it."""
    return {version: model.traffic.get(version, 0) for version in model.versions}


def _virtual_services(files: Mapping[str, str]) -> Iterator[VirtualService]:
    for name, text in files.items():
        for document in read_documents(text, name):
            if document.data.get("kind") == "VirtualService":
                spec = read_resource(document).spec
                if isinstance(spec, VirtualService):
                    yield spec


def _version(subset: str) -> str:
    """`digits-v2` -> `2`."""
    return subset.rpartition("v")[2]
