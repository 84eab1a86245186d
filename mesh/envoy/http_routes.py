"""The routes of a VirtualService. Law: in order of evaluation, as far as one that every call matches.

Source: Istio's BuildHTTPRoutesForVirtualService and TranslateRoute.
"""

from __future__ import annotations

from collections.abc import Iterator

from mesh.envoy.actions import Directory, action
from mesh.envoy.faults import FAULT_FILTER, fault
from mesh.envoy.header_edits import header_edits
from mesh.envoy.matches import catches_all, concerns, path_of, route_match
from mesh.envoy.proto import Json, message
from mesh.istio.http_route import HTTPMatchRequest, HTTPRoute
from mesh.istio.proxies import Proxy
from mesh.istio.resource import Resource
from mesh.istio.virtual_service import VirtualService


def http_routes(resource: Resource[VirtualService], proxy: Proxy, port: int, directory: Directory) -> tuple[Json, ...]:
    """Each envoy.config.route.v3.Route for calls of a proxy to a port. None at all: the VirtualService says nothing."""
    return tuple(_routes(resource, proxy, port, directory))


def _routes(resource: Resource[VirtualService], proxy: Proxy, port: int, directory: Directory) -> Iterator[Json]:
    for route in resource.spec.http:
        for match in route.match or (None,):
            if match is not None and not concerns(match, proxy, port):
                continue
            matched = route_match(match)
            yield _route(resource, route, match, matched, port, directory)
            if match is None or catches_all(matched):
                return


def _route(
    resource: Resource[VirtualService],
    route: HTTPRoute,
    match: HTTPMatchRequest | None,
    matched: Json,
    port: int,
    directory: Directory,
) -> Json:
    # A single destination's edits of headers stand beside the route's own; of several, each has its own.
    alone = [route.route[0].headers] if len(route.route) == 1 else []
    does = action(route, port, directory)
    return message(
        name=_name(route, match),
        match=matched,
        metadata=_metadata(resource),
        stat_prefix=match.stat_prefix or None if match else None,
        **header_edits(route.headers, *alone),
        **does,
        decorator={"operation": _operation(does, resource, port) + path_of(matched)},
        typed_per_filter_config={FAULT_FILTER: fault(route.fault)} if route.fault else None,
    )


def _name(route: HTTPRoute, match: HTTPMatchRequest | None) -> str | None:
    """`ROUTE.MATCH`, as far as they have names."""
    return (f"{route.name}.{match.name}" if match and match.name else route.name) or None


def _metadata(resource: Resource[VirtualService]) -> Json:
    """Where Istio's tools look for the resource that a route is from."""
    place = f"/apis/networking.istio.io/v1/namespaces/{resource.namespace}/virtual-service/{resource.name}"
    return {"filter_metadata": {"istio": {"config": place}}}


def _operation(does: Json, resource: Resource[VirtualService], port: int) -> str:
    """What traces call it: `HOST:PORT` of the one cluster, else of the VirtualService."""
    forwarding = does.get("route")
    cluster = forwarding.get("cluster") if isinstance(forwarding, dict) else None
    if isinstance(cluster, str):
        _, to_port, _, host = cluster.split("|")
        return f"{host}:{to_port}"
    return f"{resource.name}:{port}"
