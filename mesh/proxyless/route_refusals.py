"""What a VirtualService can ask and gRPC's client cannot do. Law: it is refused by name; gRPC itself ignores it.

Sources: https://github.com/grpc/grpc/blob/master/doc/grpc_xds_features.md ("a gRPC client will simply ignore the
configuration of a feature it does not support"); gRFC A28 for matches, A33 for faults, A44 for retries; and, where
these leave it open, what grpcio 1.81 does.
"""

from __future__ import annotations

from collections.abc import Iterator
from http import HTTPStatus
from typing import Final

from mesh.istio.headers import Headers
from mesh.istio.http_route import HTTPMatchRequest, HTTPRetry, HTTPRoute
from mesh.istio.message import Mistake, json_name

_RETRY_ON: Final = frozenset({"cancelled", "deadline-exceeded", "internal", "resource-exhausted", "unavailable"})
_MOST_RETRIES: Final = 4  # of five attempts (gRFC A6)
_CANNOT: Final = {
    "redirect": "gRPC's client follows no redirects",
    "direct_response": "gRPC's client answers no call itself",
    "rewrite": "gRPC's client rewrites neither path nor authority",
    "mirror": "gRPC's client mirrors no calls",
    "mirrors": "gRPC's client mirrors no calls",
    "timeout": "gRPC's client ends calls one to two seconds before it (grpc/grpc#34547); the caller sets deadlines",
}
_SHORTEST_BACKOFF: Final = 2  # ms; at one, grpcio 1.81 now and then loses a call for ever
_SET_LATER: Final = frozenset({"te", "user-agent"})  # by gRPC, once the route is chosen


def in_route(route: HTTPRoute) -> Iterator[Mistake]:
    """Every such place in a route, but for its matches."""
    for field, why in _CANNOT.items():
        if getattr(route, field):
            yield (json_name(field),), why
    yield from _in_headers(route.headers)
    for index, destination in enumerate(route.route):
        for where, what in _in_headers(destination.headers):
            yield ("route", index, *where), what
    for field, what in _in_retries(route.retries) if route.retries else ():
        yield ("retries", field), what
    if route.fault and route.fault.abort and route.fault.abort.http_status == HTTPStatus.OK:
        yield ("fault", "abort", "httpStatus"), "to gRPC's client 200 is no failure"


def in_match(match: HTTPMatchRequest) -> Iterator[Mistake]:
    """Every such place in a match: gRPC's client sees the path, and what the application sent."""
    for field in ("scheme", "method", "authority"):
        if getattr(match, field) is not None:
            yield (field,), f"gRPC's client does not match the {field}"
    if match.query_params:
        yield ("queryParams",), "gRPC's client matches no parameters"
    if match.stat_prefix:
        yield ("statPrefix",), "gRPC's client keeps no such statistics"
    for field, names in (("headers", match.headers), ("withoutHeaders", match.without_headers)):
        for name in names:
            if what := _in_name(name):
                yield (field, name), what
    for name, text in match.without_headers.items():
        if not text.present:
            yield ("withoutHeaders", name), "to gRPC's client a missing header matches no value, and not its absence"


def _in_name(name: str) -> str | None:
    if name.startswith(":"):
        return "gRPC's client matches the headers that the application sent alone (the path by uri)"
    if name != name.lower():
        return f"gRPC's client finds headers in lower case alone: write {name.lower()}"
    if name in _SET_LATER or name.endswith("-bin"):
        return "gRPC's client does not match this header"
    return None


def _in_headers(headers: Headers) -> Iterator[Mistake]:
    for side, operations in (("request", headers.request), ("response", headers.response)):
        if operations.set or operations.add or operations.remove:
            yield ("headers", side), "gRPC's client edits no headers"


def _in_retries(retries: HTTPRetry) -> Iterator[tuple[str, str]]:
    if retries.attempts > _MOST_RETRIES:
        yield "attempts", f"{retries.attempts}: gRPC's client retries {_MOST_RETRIES} times at most"
    if retries.per_try_timeout is not None:
        yield "perTryTimeout", "gRPC's client bounds no single try"
    others = [one for one in retries.retry_on.split(",") if one and one not in _RETRY_ON]
    if others:
        known = ", ".join(sorted(_RETRY_ON))
        yield "retryOn", f"{', '.join(others)}: gRPC's client retries by status alone: {known}"
    if retries.retry_remote_localities:
        yield "retryRemoteLocalities", "gRPC's client retries wherever its load balancer leads"
    if retries.retry_ignore_previous_hosts:
        yield "retryIgnorePreviousHosts", "gRPC's client retries wherever its load balancer leads"
    if retries.backoff is not None and retries.backoff.nanoseconds < _SHORTEST_BACKOFF * 10**6:
        yield "backoff", f"is shorter than {_SHORTEST_BACKOFF}ms, which gRPC's client does not bear"
