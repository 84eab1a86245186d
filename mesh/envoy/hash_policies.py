"""What a call's copy is chosen by. Law: the narrowest policy that hashes decides; a port's policy, for that port alone.

Source: Istio's HashForHTTPDestination, hashForService and ConsistentHashToHashPolicy.
"""

from __future__ import annotations

from collections.abc import Iterable

from mesh.envoy.proto import Json, duration, message
from mesh.istio.destination_rule import DestinationRule, TrafficPolicy
from mesh.istio.http_route import Destination
from mesh.istio.load_balancer import ConsistentHashLB, HTTPCookie, LoadBalancerSettings


def hash_of_destination(rule: DestinationRule, destination: Destination) -> ConsistentHashLB | None:
    """The hash for a destination of a route: the subset's for the port, the subset's, the port's, the rule's.

    A port's policy holds only where the destination names that port.
    """
    subset = next((one.traffic_policy for one in rule.subsets if one.name == destination.subset), None)
    port = destination.port.number if destination.port else None
    candidates = (_of_port(subset, port), _of(subset), _of_port(rule.traffic_policy, port), _of(rule.traffic_policy))
    return _first(candidates)


def hash_of_service(rule: DestinationRule, port: int) -> ConsistentHashLB | None:
    """The hash for a service that no VirtualService routes to: the port's, the rule's."""
    return _first((_of_port(rule.traffic_policy, port), _of(rule.traffic_policy)))


def hash_policy(hashing: ConsistentHashLB) -> Json | None:
    """envoy...RouteAction.HashPolicy; None where nothing says what to hash."""
    if hashing.http_header_name is not None:
        return {"header": {"header_name": hashing.http_header_name}}
    if hashing.http_cookie is not None:
        return {"cookie": _cookie(hashing.http_cookie)}
    if hashing.use_source_ip is not None:
        return {"connection_properties": message(source_ip=hashing.use_source_ip or None)}
    if hashing.http_query_parameter_name is not None:
        return {"query_parameter": {"name": hashing.http_query_parameter_name}}
    return None


def _cookie(cookie: HTTPCookie) -> Json:
    attributes = [message(name=one.name, value=one.value or None) for one in cookie.attributes]
    return message(name=cookie.name, ttl=duration(cookie.ttl), path=cookie.path or None, attributes=attributes or None)


def _of_port(policy: TrafficPolicy | None, port: int | None) -> ConsistentHashLB | None:
    settings = policy.port_level_settings if policy else ()
    return next((_balancing(one.load_balancer) for one in settings if one.port.number == port), None)


def _of(policy: TrafficPolicy | None) -> ConsistentHashLB | None:
    return _balancing(policy.load_balancer) if policy else None


def _balancing(load_balancer: LoadBalancerSettings | None) -> ConsistentHashLB | None:
    return load_balancer.consistent_hash if load_balancer else None


def _first(candidates: Iterable[ConsistentHashLB | None]) -> ConsistentHashLB | None:
    return next((one for one in candidates if one is not None), None)
