"""What Istio accepts and Envoy cannot do. Law: it is refused by name, wherever it stands, whoever would see it.

Istio drops some of this with a line in its log, and sends the rest to Envoys that refuse the whole configuration.
"""

from __future__ import annotations

from collections.abc import Iterator

from mesh.envoy.answers import REDIRECT_CODES
from mesh.envoy.proto import refusal
from mesh.istio.destination_rule import DestinationRule
from mesh.istio.document import RefusedError
from mesh.istio.fault import HTTPFaultInjection
from mesh.istio.http_route import HTTPRoute
from mesh.istio.load_balancer import ConsistentHashLB
from mesh.istio.message import Mistake
from mesh.istio.world import World

_NO_STATUS = 600
"""Istio takes statuses up to 600, Envoy below it."""


def refuse_routes(world: World) -> None:
    """Raises RefusedError with every such place in VirtualServices and in the hashes of DestinationRules."""
    found = [
        *(refusal(one, where, what) for one in world.virtual_services for where, what in _in_routes(one.spec.http)),
        *(refusal(one, where, what) for one in world.destination_rules for where, what in _in_rule(one.spec)),
    ]
    if found:
        raise RefusedError([mistake for one in found for mistake in one.mistakes])


def _in_routes(routes: tuple[HTTPRoute, ...]) -> Iterator[Mistake]:
    for index, route in enumerate(routes):
        for where, what in _in_route(route):
            yield ("http", index, *where), what


def _in_route(route: HTTPRoute) -> Iterator[Mistake]:
    if route.redirect and route.redirect.redirect_code not in REDIRECT_CODES:
        codes = ", ".join(str(code) for code in REDIRECT_CODES if code)
        yield ("redirect", "redirectCode"), f"{route.redirect.redirect_code} is not implemented: only {codes}"
    if route.direct_response and route.direct_response.status == _NO_STATUS:
        yield ("directResponse", "status"), f"{_NO_STATUS} is no HTTP status"
    if route.fault:
        for where, what in _in_fault(route.fault):
            yield ("fault", *where), what


def _in_fault(fault: HTTPFaultInjection) -> Iterator[Mistake]:
    delay, abort = fault.delay, fault.abort
    if delay and delay.fixed_delay is None:
        yield ("delay", "fixedDelay"), "is missing: without it there is no delay"
    if abort and abort.http_status is None and abort.grpc_status is None:
        yield ("abort",), "needs httpStatus or grpcStatus: without one there is no abort"
    if abort and abort.http_status == _NO_STATUS:
        yield ("abort", "httpStatus"), f"{_NO_STATUS} is no HTTP status"


def _in_rule(rule: DestinationRule) -> Iterator[Mistake]:
    for place, policy in rule.policies():
        hashing = policy.load_balancer.consistent_hash if policy.load_balancer else None
        for field in _empty_keys(hashing) if hashing else ():
            yield (*place, "loadBalancer", "consistentHash", field), "must not be empty"


def _empty_keys(hashing: ConsistentHashLB) -> Iterator[str]:
    if hashing.http_header_name == "":
        yield "httpHeaderName"
    if hashing.http_query_parameter_name == "":
        yield "httpQueryParameterName"
