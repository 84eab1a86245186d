"""What a mesh can ask of a proxyless caller that it cannot do. Law: it is refused by name, where it would be in force.

So it is refused of the services that the caller may call (a Sidecar's egress says which), and of its own workload.
"""

from __future__ import annotations

from collections.abc import Iterator

from mesh.envoy.copies import copies
from mesh.envoy.destination_rules import Rule, rule_for
from mesh.envoy.matches import concerns
from mesh.envoy.mtls import modes
from mesh.envoy.policy_refusals import refuse_policies
from mesh.envoy.proto import refusal
from mesh.envoy.registry import concerned
from mesh.envoy.route_refusals import refuse_routes
from mesh.envoy.visible import Service, imported, services, virtual_services
from mesh.istio.destination_rule import TrafficPolicy
from mesh.istio.document import RefusedError
from mesh.istio.http_route import HTTPRoute
from mesh.istio.message import Mistake
from mesh.istio.peer_authentication import MutualTLSMode
from mesh.istio.proxies import Proxy
from mesh.istio.service_entry import Resolution, ServicePort
from mesh.istio.world import World
from mesh.proxyless.policy_refusals import in_rule
from mesh.proxyless.route_refusals import in_match, in_route


def refuse(world: World, proxy: Proxy) -> None:
    """Raises RefusedError with every such place, and with those that Envoys refuse."""
    refuse_routes(world)
    refuse_policies(world)
    found = [
        *_in_virtual_services(world, proxy),
        *(mistake for service in services(world, proxy) for mistake in _in_service(world, proxy, service)),
        *_in_own_policies(world, proxy),
    ]
    if found:
        raise RefusedError(list(dict.fromkeys(line for one in found for line in one.mistakes)))


def _in_virtual_services(world: World, proxy: Proxy) -> Iterator[RefusedError]:
    registry = {service.host.lower(): service for service in imported(world, proxy)}
    for resource in virtual_services(world, proxy):
        if concerned(resource, registry):
            for index, route in enumerate(resource.spec.http):
                for where, what in _in_http_route(route, proxy):
                    yield refusal(resource, ("http", index, *where), what)


def _in_http_route(route: HTTPRoute, proxy: Proxy) -> Iterator[Mistake]:
    own = [index for index, match in enumerate(route.match) if concerns(match, proxy, match.port)]
    if own or not route.match:
        yield from in_route(route)
    for index in own:
        for where, what in in_match(route.match[index]):
            yield ("match", index, *where), what


def _in_service(world: World, proxy: Proxy, service: Service) -> Iterator[RefusedError]:
    rule = rule_for(world, service.host, service.namespace, proxy)
    for part in rule.parts if rule else ():
        for where, what in in_rule(part.spec):
            yield refusal(part, where, what)
    if service.entry.spec.resolution is not Resolution.STATIC:
        what = f"{service.entry.spec.resolution}: gRPC's client is told of addresses alone, which STATIC finds"
        yield refusal(service.entry, ("resolution",), what)
        return
    for port in service.ports:
        for subset in ("", *(subset.name for subset in rule.spec.subsets)) if rule else ("",):
            yield from _in_copies(world, service, port, rule, subset)


def _in_copies(
    world: World, service: Service, port: ServicePort, rule: Rule | None, subset: str
) -> Iterator[RefusedError]:
    policy = (rule.policy(port.number, subset) if rule else None) or TrafficPolicy()
    found = copies(world, service, port, rule.subset_labels(subset) if rule else None)
    hashed = policy.load_balancer is not None and policy.load_balancer.consistent_hash is not None
    if not hashed and len({copy.weight for copy in found}) > 1:
        yield refusal(service.entry, (), "its copies have several weights, which round robin of gRPC's client has not")
    strict = [copy.name for copy in found if modes(world, copy).of(copy.port) is MutualTLSMode.STRICT]
    if policy.tls is None and strict:
        what = (
            f"{strict[0]} takes mutual TLS alone: a DestinationRule must say ISTIO_MUTUAL for gRPC's client to use it"
        )
        yield refusal(service.entry, ("ports", service.entry.spec.ports.index(port)), what)


def _in_own_policies(world: World, proxy: Proxy) -> Iterator[RefusedError]:
    """Policies for calls to the workload: without a sidecar, nothing stands before it."""
    what = f"it holds for {proxy.name}.{proxy.namespace}, which has no sidecar to enforce it"
    yield from (refusal(one, ("action",), what) for one in world.authorization_policies(proxy))
    yield from (refusal(one, ("jwtRules",), what) for one in world.request_authentications(proxy))
    mode = modes(world, proxy)
    if MutualTLSMode.STRICT in (mode.otherwise, *mode.ports.values()):
        yield from (refusal(one, ("mtls",), what) for one in world.peer_authentications(proxy))
