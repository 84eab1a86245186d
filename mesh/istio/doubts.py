"""What Istio takes, and its author hardly meant. Law: told, never refused; each with where it stands and what it does.

The first is what `istioctl analyze` tells as IST0101.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from mesh.istio.http_route import Destination, HTTPRoute
from mesh.istio.message import Place
from mesh.istio.names import qualified
from mesh.istio.resource import Resource, path
from mesh.istio.virtual_service import VirtualService
from mesh.istio.world import World


def doubts(world: World) -> tuple[str, ...]:
    """A line for each."""
    subsets = _subsets(world)
    found = ((one, *doubt) for one in world.virtual_services for doubt in _in_routes(one, subsets))
    return tuple(
        f"{one.position}: {one.kind} {one.namespace}/{one.name}: {path(('spec', 'http', *place))}: {what}"
        for one, place, what in found
    )


def _subsets(world: World) -> Mapping[str, set[str]]:
    """Host -> the subsets that any DestinationRule gives it."""
    found: dict[str, set[str]] = {}
    for rule in world.destination_rules:
        host = qualified(rule.spec.host, rule.namespace)
        found.setdefault(host, set()).update(subset.name for subset in rule.spec.subsets)
    return found


def _in_routes(one: Resource[VirtualService], subsets: Mapping[str, set[str]]) -> Iterator[tuple[Place, str]]:
    for index, route in enumerate(one.spec.http):
        for place, destination in _destinations(route):
            host = qualified(destination.host, one.namespace)
            if destination.subset and destination.subset not in subsets.get(host, ()):
                lack = f"no DestinationRule of {host} has a subset {destination.subset}"
                yield (index, *place), f"{lack}: calls that go there get UNAVAILABLE"
        total = sum(each.weight for each in route.route)
        if len(route.route) > 1 and total != 100:
            yield (index, "route"), f"the weights add up to {total}, not 100: each is that share of {total}"


def _destinations(route: HTTPRoute) -> Iterator[tuple[Place, Destination]]:
    for index, each in enumerate(route.route):
        yield ("route", index, "destination"), each.destination
    if route.mirror is not None:
        yield ("mirror",), route.mirror
    for index, policy in enumerate(route.mirrors):
        yield ("mirrors", index, "destination"), policy.destination
