"""The express lane at Istio's ingress gateway. Law: a call that the script does not carry is Python's, as it came.

What the script carries takes the models' own routes, which there hold for nothing else. All patches are for the port
that callers come in by, or for routes that are named here: what else the workload does stays as it is.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Final

from mesh.catalog import Ingress, Mesh
from mesh.envoy.proto import HTTP_CONNECTION_MANAGER, HTTP_CONNECTION_MANAGER_FILTER, ROUTER_FILTER, outbound, typed
from mesh.express.parts import IDLE, LANE_KEY, carried, held, lua, manager, router
from mesh.express.rules import PYTHON, Rules
from mesh.render.resource import Fields, given, resource
from mesh.render.routes import carries, names_of_carried
from mesh.render.services import EXPRESS_LANE, Service
from mesh.render.source import RenderError

_PRIORITY: Final = 10  # after filters that others have put in
_UNDECIDED: Final = f"{EXPRESS_LANE}-undecided"
_PYTHONS: Final = (f"{EXPRESS_LANE}-decided", _UNDECIDED, f"{EXPRESS_LANE}-other")
_ANSWERED: Final[Fields] = {"idle_timeout": "0s"}  # a route that says nothing keeps the time of the one before it
# Python keeps callers' deadlines; Istio would have Envoy end calls at the same moment, with other words.
_UNBOUNDED: Final[Fields] = {"max_stream_duration": {"max_stream_duration": "0s"}}


def name_of(ingress: Ingress) -> str:
    """The Gateway, as VirtualServices name it."""
    return f"{ingress.namespace}/{EXPRESS_LANE}"


def resources(mesh: Mesh, services: Sequence[Service], rules: Rules) -> list[Fields]:
    """What keeps callers from the lane's own header, and the lane; the door last. Raises RenderError."""
    if mistakes := list(_mistakes(services)):
        raise RenderError(mistakes)
    there = [service for service in services if any(map(carries, service.models))]
    others = [_to_python(f"{EXPRESS_LANE}-models", mesh, rules, *(one.host for one in there))] if there else []
    return [
        _no_callers_lane(mesh.ingress),
        _envoy_filter(mesh, services, replace(rules, asked=outbound(mesh.gateway.asked, mesh.gateway.host))),
        _to_python(EXPRESS_LANE, mesh, rules, "*"),
        *others,
        _gateway(mesh.ingress),
    ]


def _mistakes(services: Iterable[Service]) -> Iterator[str]:
    """Sidecars know a host by short names, too; an ingress gateway does not."""
    for service in services:
        full = f"{service.host}:{service.port}"
        for model in service.models:
            if model.host != full:
                yield f"model {model.name}: host: must be {full}, in full, for the express lane"


def _gateway(ingress: Ingress) -> Fields:
    server: Fields = {"port": {"number": ingress.listens, "name": "grpc", "protocol": "GRPC"}, "hosts": ["*"]}
    if ingress.credential is not None:
        mode = "MUTUAL" if ingress.client_ca else "SIMPLE"
        server["port"] = {"number": ingress.listens, "name": "https", "protocol": "HTTPS"}
        server["tls"] = {"mode": mode, "credentialName": ingress.credential}
    return _at(ingress, "Gateway", {"selector": dict(ingress.labels), "servers": [server]})


def _no_callers_lane(ingress: Ingress) -> Fields:
    """Refuses what the EnvoyFilter takes away: without it, callers could go by the models' routes."""
    condition = {"key": f"request.headers[{LANE_KEY}]", "values": ["*"]}
    selector = {"matchLabels": dict(ingress.labels)}
    return _at(
        ingress, "AuthorizationPolicy", {"selector": selector, "action": "DENY", "rules": [{"when": [condition]}]}
    )


def _at(ingress: Ingress, kind: str, spec: Fields) -> Fields:
    return resource(kind, ingress.namespace, EXPRESS_LANE, spec)


def _to_python(name: str, mesh: Mesh, rules: Rules, *hosts: str) -> Fields:
    """Whatever authority callers name, a model's too: none of these routes takes what the script carries."""
    nobodys: Fields = {"withoutHeaders": {LANE_KEY: {}}}
    decided: Fields = {"uri": {"exact": rules.path}, "headers": {LANE_KEY: {"exact": PYTHON}}}
    matches = (decided, {"uri": {"exact": rules.path}, **nobodys}, nobodys)
    destination = {"host": mesh.gateway.host, "port": {"number": mesh.gateway.port}}
    http = [
        # Python has tried again what may be tried again.
        {"name": name, "match": [match], "route": [{"destination": destination}], "retries": {"attempts": 0}}
        for name, match in zip(_PYTHONS, matches, strict=True)
    ]
    spec: Fields = {"hosts": list(hosts), "gateways": [name_of(mesh.ingress)], "http": http}
    return resource("VirtualService", mesh.gateway.namespace, name, spec)


def _envoy_filter(mesh: Mesh, services: Iterable[Service], rules: Rules) -> Fields:
    models = [model for service in services for model in service.models]
    largest = max(model.max_request for model in models)  # the script looks at every model's
    names = [name for model in models if carries(model) for name in names_of_carried(model)]
    patches = [
        *_of_listener(mesh.ingress.listens, rules),
        *(_of_route(name, carried() | {"route": _ANSWERED}) for name in names),
        *(_of_route(name, _by_python(name, largest)) for name in _PYTHONS),
    ]
    selector = {"labels": dict(mesh.ingress.labels)}
    spec: Fields = {"workloadSelector": selector, "priority": _PRIORITY, "configPatches": patches}
    return _at(mesh.ingress, "EnvoyFilter", spec)


def _by_python(name: str, largest: int) -> Fields:
    if name == _UNDECIDED:
        return {"route": _UNBOUNDED | {"idle_timeout": IDLE}, "request_body_buffer_limit": held(largest)}
    return {"route": _UNBOUNDED | _ANSWERED}


def _of_listener(port: int, rules: Rules) -> Iterator[Fields]:
    def patch(to: str, operation: str, value: Fields, *, filters: Fields | None = None) -> Fields:
        chain = {"filter": filters} if filters else None
        return _patch(to, operation, value, listener=given(portNumber=port, filterChain=chain))

    last: Fields = {"name": HTTP_CONNECTION_MANAGER_FILTER, "subFilter": {"name": ROUTER_FILTER}}
    merged: Fields = {
        "name": HTTP_CONNECTION_MANAGER_FILTER,
        "typed_config": typed(HTTP_CONNECTION_MANAGER, **manager()),
    }
    yield patch("NETWORK_FILTER", "MERGE", merged, filters={"name": HTTP_CONNECTION_MANAGER_FILTER})
    yield patch("HTTP_FILTER", "MERGE", router(), filters=last)
    # Policies of the gateway's own look at calls before it, as callers sent them.
    yield patch("HTTP_FILTER", "INSERT_BEFORE", lua(rules), filters=last)


def _of_route(name: str, value: Fields) -> Fields:
    return _patch("HTTP_ROUTE", "MERGE", value, routeConfiguration={"vhost": {"route": {"name": name}}})


def _patch(to: str, operation: str, value: Fields, **match: Fields) -> Fields:
    return {
        "applyTo": to,
        "match": {"context": "GATEWAY", **match},
        "patch": {"operation": operation, "value": value},
    }
