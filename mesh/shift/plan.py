"""Which weights become what. Law: of a model's routes, those change that its calls get which name no version.

A version is the destination that its pin leads to (a route that asks for `x-model-version`); one without a pin is the
destination whose subset, or whose host's first label, is called `VERSION`, `vVERSION` or `...-vVERSION`. A destination
that is not asked for gets 0. Routes that ask for other headers are left as they are, and named.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from mesh.shift.routes import Alternative, Destination, Route, Routes
from mesh.shift.wanted import Wanted
from protos.contract import MODEL_NAME, MODEL_VERSION

Place = tuple[str, str, int | None]


class ShiftError(Exception):
    """What is asked cannot be done. The text is one sentence that says what to do."""


@dataclass(frozen=True)
class Weight:
    """One destination's weight, as it is (a single destination has them all) and as it shall be."""

    route: Route
    index: int
    version: str
    old: int
    new: int

    @property
    def destination(self) -> Destination:
        """Whose weight it is."""
        return self.route.destinations[self.index]

    @property
    def place(self) -> tuple[str | int, ...]:
        """Where in the VirtualService it is, or would be."""
        return "spec", "http", self.route.index, "route", self.index, "weight"

    @property
    def pointer(self) -> str:
        """The same as a JSON pointer (RFC 6901)."""
        return "".join(f"/{step}" for step in self.place)

    @property
    def changes(self) -> bool:
        """Whether it is to be written."""
        return self.old != self.new


@dataclass(frozen=True)
class Plan:
    """Every weight of a model's calls that name no version; `left` are routes that only some of them get, and why."""

    routes: Routes
    weights: tuple[Weight, ...]
    left: tuple[tuple[str, str], ...]

    @property
    def changes(self) -> tuple[Weight, ...]:
        """What is to be written."""
        return tuple(one for one in self.weights if one.changes)


def plan(routes: Routes, model: str, wanted: Wanted) -> Plan:
    """What makes a model's weights the wanted ones. Raises ShiftError."""
    met = [route for route, _ in routes.met({MODEL_NAME: model}) if route.destinations]
    if not met:
        raise ShiftError(f"in {routes.whose.title} no route takes calls of {model} that name no version: add one")
    for route in met:
        if routes.whose.models - {model} and not _is_own(route, model):
            what = f"the route {route.name} is for other models, too: give {model} one of its own"
            raise ShiftError(f"in {routes.whose.title} {what}")
    versions = _pins(routes, model)
    versions |= {version: _named(routes, model, met, version) for version in wanted if version not in versions}
    weights = [weight for route in met for weight in _weights(routes, route, wanted, versions)]
    return Plan(routes, tuple(weights), tuple(_left(routes, model)))


def _is_own(route: Route, model: str) -> bool:
    """Whether only one model's calls get a route."""
    names = [one.headers.get(MODEL_NAME) for one in route.alternatives]
    return all(name is not None and name.exact == model for name in names)


def _pins(routes: Routes, model: str) -> dict[str, Place]:
    """Version -> where the routes lead that ask for it. Raises ShiftError where these do not agree."""
    found: dict[str, Place] = {}
    asked = (one.headers.get(MODEL_VERSION) for route in routes.http for one in route.alternatives)
    for version in dict.fromkeys(text.exact for text in asked if text is not None and text.exact is not None):
        for route, alternatives in routes.met({MODEL_NAME: model, MODEL_VERSION: version}):
            receiving = [one for one in route.destinations if one.weight or len(route.destinations) == 1]
            if len(receiving) != 1 or not any(_asks_for(one, version) for one in alternatives):
                continue
            if found.setdefault(version, receiving[0].place) != receiving[0].place:
                what = f"version {version} of {model} leads to two destinations: make it one"
                raise ShiftError(f"in {routes.whose.title} {what}")
    return found


def _asks_for(one: Alternative, version: str) -> bool:
    text = one.headers.get(MODEL_VERSION)
    return text is not None and text.exact == version


def _named(routes: Routes, model: str, met: Sequence[Route], version: str) -> Place:
    """Where a version is that no route asks for: by its name. Raises ShiftError."""
    there = [one for route in met for one in route.destinations]
    names = (version, f"v{version}")
    found = {one.place for one in there if one.label in names or one.label.endswith(f"-v{version}")}
    if len(found) == 1:
        return found.pop()
    if found:
        what = f"several destinations are called like version {version}: pin it, by a route for x-model-version"
        raise ShiftError(f"in {routes.whose.title} {what}")
    labels = ", ".join(dict.fromkeys(one.label for one in there))
    missing = _yaml((there[0].host, "SUBSET", there[0].port))
    raise ShiftError(
        f"there is no version {version} of {model}: {routes.whose.title} has {labels}; "
        f"to bring it in, add {missing} to the route {met[0].name}"
    )


def _weights(routes: Routes, route: Route, wanted: Wanted, versions: Mapping[str, Place]) -> Iterator[Weight]:
    """A route's weights. Raises ShiftError where a version has no destination of its own in it."""
    places = [one.place for one in route.destinations]
    shares = {versions[version]: weight for version, weight in wanted.items()}
    if len(shares) < len(wanted) or any(places.count(place) > 1 for place in shares):
        what = f"the route {route.name} does not tell the versions apart: give each one destination of its own"
        raise ShiftError(f"in {routes.whose.title} {what}")
    for version, weight in wanted.items():
        if weight and versions[version] not in places:
            what = f"the route {route.name} does not list version {version}: add {_yaml(versions[version])} to it"
            raise ShiftError(f"in {routes.whose.title} {what}")
    names = {versions[version]: version for version in (*versions, *wanted)}
    for index, one in enumerate(route.destinations):
        old = 100 if len(places) == 1 else one.weight or 0
        yield Weight(route, index, names.get(one.place, one.label), old, shares.get(one.place, 0))


def _yaml(place: Place) -> str:
    """A destination that gets no calls yet, as YAML."""
    host, subset, port = place
    parts = [f"host: {host}", *([f"subset: {subset}"] if subset else [])]
    parts += [f"port: {{number: {port}}}"] if port else []
    return f"- {{destination: {{{', '.join(parts)}}}, weight: 0}}"


def _left(routes: Routes, model: str) -> Iterator[tuple[str, str]]:
    met = {route.index for route, _ in routes.met({MODEL_NAME: model})}
    for route in routes.http:
        possible = [one for one in route.alternatives if _could_be(one, model)]
        if possible and route.index not in met:
            yield route.name, f"only for calls with {', '.join(possible[0].chooses_by)}"


def _could_be(one: Alternative, model: str) -> bool:
    """Whether calls of a model that name no version, but have other headers, could match."""
    name = one.headers.get(MODEL_NAME)
    return (name is None or name.exact == model) and bool(one.chooses_by) and MODEL_VERSION not in one.headers


def json_patch(planned: Plan, resource_version: str) -> list[dict[str, object]]:
    """The plan as a JSON patch (RFC 6902) of the very version of the object that it was made from.

    `add` also replaces what is there. To write the version that is there already changes nothing, but of an object that
    has moved on it makes the API server answer 409 Conflict.
    """
    version: dict[str, object] = {"op": "replace", "path": "/metadata/resourceVersion", "value": resource_version}
    return [version, *({"op": "add", "path": one.pointer, "value": one.new} for one in planned.changes)]
