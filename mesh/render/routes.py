"""The VirtualService of a host. Law: the first route that matches wins, so what is named stands before what is drawn.

First come the routes to single copies, for what each must get (`Model.copies`): no caller can send COPY. Then, for each
model: streams, which nothing but the caller's deadline bounds (a stream is neither tried again nor mirrored), then
every other call; of each kind first a pin for every version, then the default, which shares calls by weight. The
default lists every version, so that a shift changes numbers alone.

With an `ingress` the routes that are not streams' are also for what the express lane carries there, and for nothing
else that comes in by it: no caller can send LANE_KEY.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from mesh.catalog import Model
from mesh.express.parts import EXPRESS, LANE_KEY
from mesh.istio.selector import MESH
from mesh.render import weights
from mesh.render.resource import Fields, duration, given, percent, resource
from mesh.render.services import Service, default_routes
from mesh.render.weights import Live
from mesh.slug import slug
from protos.contract import COPY, MODEL_NAME, MODEL_VERSION, SERVICE

_STREAM: Final = f"/{SERVICE}/ModelStreamInfer"
_OFF: Final[Mapping[str, object]] = {"attempts": 0}


def virtual_service(service: Service, live: Live, *, proxyless: bool = False, ingress: str | None = None) -> Fields:
    """Istio's VirtualService; `live` holds the weights that stay, `ingress` is the Gateway of the express lane.

    For a `proxyless` gateway routes have no timeout: gRPC would end calls before it, and the gateway keeps it itself.
    """
    lane = ingress if any(map(carries, service.models)) else None
    http = [
        *(route.fields(lane, carries=False) for model in service.models for route in _to_copies(service, model)),
        *(
            route.fields(lane, carries=carries(model))
            for model in service.models
            for route in _routes(service, model, live, proxyless=proxyless)
        ),
    ]
    spec = given(hosts=[service.host], gateways=[MESH, lane] if lane else None, http=http)
    return resource("VirtualService", service.namespace, service.resource_name, spec)


def carries(model: Model) -> bool:
    """Whether the express lane may carry a model's calls; which copy has a sequence is Python's to say."""
    return not model.sequence


def names_of_carried(model: Model) -> tuple[str, ...]:
    """The names of the routes that its carried calls take."""
    _, default = default_routes(model)
    return (*(_pin(model, version) for version in model.versions), default)


def is_retried(model: Model) -> bool:
    """Whether any failure is tried again. To name no failures is to want no retries; Istio would take its own list."""
    return bool(model.tries and model.retries.on)


@dataclass(frozen=True)
class _Route:
    """A route for calls with these headers; a stream's, or any other's."""

    name: str
    stream: bool
    headers: Fields
    destinations: list[Fields]
    policy: Fields

    def fields(self, ingress: str | None, *, carries: bool) -> Fields:
        """Istio's HTTPRoute."""
        matches = [given(**self._match(self.headers), gateways=[MESH] if ingress else None)]
        if ingress and carries and not self.stream:
            matches.append(self._match(self.headers | {LANE_KEY: {"exact": EXPRESS}}) | {"gateways": [ingress]})
        return (
            given(name=self.name, match=[one for one in matches if one] or None, route=self.destinations) | self.policy
        )

    def _match(self, headers: Fields) -> Fields:
        return given(uri={"exact": _STREAM} if self.stream else None, headers=headers or None)


def _to_copies(service: Service, model: Model) -> Iterator[_Route]:
    """For what each copy must get: loading takes its time, and is done once."""
    for version, number in model.copies.items():
        for index in range(number):
            headers = _headers(service, model) | {MODEL_VERSION: {"exact": version}, COPY: {"exact": str(index)}}
            destination = {"host": service.host, "subset": service.subset_of_copy(model, version, index)}
            name = f"{_pin(model, version)}-copy{index}"
            to: list[Fields] = [{"destination": destination}]
            yield _Route(name, stream=False, headers=headers, destinations=to, policy={"retries": _OFF})


def _routes(service: Service, model: Model, live: Live, *, proxyless: bool) -> Iterator[_Route]:
    for_streams, for_others = default_routes(model)
    bounds = given(timeout=None if proxyless else duration(model.timeout), retries=_retries(model))
    yield from _pins(service, model, stream=True, policy={"retries": _OFF})
    yield _default(service, model, live, for_streams, {"retries": _OFF})
    yield from _pins(service, model, stream=False, policy=bounds)
    yield _default(service, model, live, for_others, bounds | given(mirrors=_mirrors(service, model)))


def _pins(service: Service, model: Model, *, stream: bool, policy: Fields) -> Iterator[_Route]:
    for version in model.versions:
        name = _pin(model, version) + ("-stream" if stream else "")
        headers = _headers(service, model) | {MODEL_VERSION: {"exact": version}}
        yield _Route(name, stream, headers, [{"destination": _destination(service, model, version)}], policy)


def _pin(model: Model, version: str) -> str:
    return f"{slug(model.name)}-v{version}"


def _default(service: Service, model: Model, live: Live, name: str, policy: Fields) -> _Route:
    several = len(model.versions) > 1
    shares = weights.of_route(model, service.host, name, live)
    destinations = [
        given(destination=_destination(service, model, version), weight=weight if several else None)
        for version, weight in shares.items()
    ]
    return _Route(name, name == default_routes(model)[0], _headers(service, model), destinations, policy)


def _headers(service: Service, model: Model) -> Fields:
    """By which the calls of a model that shares its host are known."""
    return {MODEL_NAME: {"exact": model.name}} if service.shared else {}


def _destination(service: Service, model: Model, version: str) -> Fields:
    return {"host": service.host, "subset": service.subset(model, version)}


def _retries(model: Model) -> Mapping[str, object]:
    if not is_retried(model):
        return _OFF
    per_try = model.retries.per_try
    if per_try is None:
        return {"attempts": model.tries, "retryOn": ",".join(model.retries.on)}
    # A worker's side is told of the limit as its deadline, and may say that time is up before our side does.
    return {
        "attempts": model.tries,
        "perTryTimeout": duration(per_try),
        "retryOn": ",".join([*model.retries.on, "deadline-exceeded"]),
    }


def _mirrors(service: Service, model: Model) -> list[Fields] | None:
    if model.shadow is None:
        return None
    destination = _destination(service, model, model.shadow.version)
    return [{"destination": destination, "percentage": {"value": percent(model.shadow.share)}}]
