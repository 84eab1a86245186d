"""The VirtualService of a host. Law: the first route that matches wins, so what is named stands before what is drawn.

For each model: streams, which nothing but the caller's deadline bounds (a stream is neither tried again nor mirrored),
then every other call; of each kind first a pin for every version, then the default, which shares calls by weight. The
default lists every version, so that a shift changes numbers alone.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final

from mesh.catalog import Model
from mesh.render import weights
from mesh.render.resource import Fields, duration, given, percent, resource
from mesh.render.services import Service, default_routes
from mesh.render.weights import Live
from mesh.slug import slug
from protos.contract import MODEL_NAME, MODEL_VERSION, SERVICE

_STREAM: Final = f"/{SERVICE}/ModelStreamInfer"
_OFF: Final[Mapping[str, object]] = {"attempts": 0}


def virtual_service(service: Service, live: Live, *, proxyless: bool = False) -> Fields:
    """Istio's VirtualService; `live` holds the weights that stay.

    For a `proxyless` gateway routes have no timeout: gRPC would end calls before it, and the gateway keeps it itself.
    """
    http = [route for model in service.models for route in _routes(service, model, live, proxyless=proxyless)]
    spec: Fields = {"hosts": [service.host], "http": http}
    return resource("VirtualService", service.namespace, service.resource_name, spec)


def is_retried(model: Model) -> bool:
    """Whether any failure is tried again. To name no failures is to want no retries; Istio would take its own list."""
    return bool(model.tries and model.retries.on)


def _routes(service: Service, model: Model, live: Live, *, proxyless: bool) -> Iterator[Fields]:
    for_streams, for_others = default_routes(model)
    bounds = given(timeout=None if proxyless else duration(model.timeout), retries=_retries(model))
    yield from _pins(service, model, "-stream", _STREAM, {"retries": _OFF})
    yield _default(service, model, live, for_streams, _STREAM, {"retries": _OFF})
    yield from _pins(service, model, "", None, bounds)
    yield _default(service, model, live, for_others, None, bounds | given(mirrors=_mirrors(service, model)))


def _pins(service: Service, model: Model, suffix: str, path: str | None, policy: Fields) -> Iterator[Fields]:
    for version in model.versions:
        name = f"{slug(model.name)}-v{version}{suffix}"
        destination: Fields = {"destination": _destination(service, model, version)}
        yield _route(name, _match(service, model, path, version), [destination], policy)


def _default(service: Service, model: Model, live: Live, name: str, path: str | None, policy: Fields) -> Fields:
    several = len(model.versions) > 1
    shares = weights.of_route(model, service.host, name, live)
    destinations = [
        given(destination=_destination(service, model, version), weight=weight if several else None)
        for version, weight in shares.items()
    ]
    return _route(name, _match(service, model, path, None), destinations, policy)


def _route(name: str, match: Fields, destinations: list[Fields], policy: Fields) -> Fields:
    return given(name=name, match=[match] if match else None, route=destinations) | policy


def _match(service: Service, model: Model, path: str | None, version: str | None) -> Fields:
    headers = given(
        **{
            MODEL_NAME: {"exact": model.name} if service.shared else None,
            MODEL_VERSION: {"exact": version} if version else None,
        }
    )
    return given(uri={"exact": path} if path else None, headers=headers or None)


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
