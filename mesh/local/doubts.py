"""What Istio takes, and its author hardly meant. Law: told, never refused; each with where it stands and what it does.

The first is what `istioctl analyze` tells as IST0101.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from mesh.envoy.proto import refusal
from mesh.istio.http_route import Destination, HTTPRoute
from mesh.istio.message import Place
from mesh.istio.names import covers, qualified
from mesh.istio.resource import Resource
from mesh.istio.virtual_service import VirtualService
from mesh.istio.world import World


def doubts(world: World) -> tuple[str, ...]:
    """A line for each."""
    subsets = _subsets(world)
    found = ((one, *doubt) for one in world.virtual_services for doubt in _in_routes(one, world, subsets))
    return tuple(line for one, place, what in found for line in refusal(one, ("http", *place), what).mistakes)


def gone(before: World, after: World) -> list[str]:
    """KIND NAMESPACE/NAME of what is there no more: an emptied file takes its policies with it."""
    return sorted({one.title for one in before.resources} - {one.title for one in after.resources})


Subsets = Mapping[str, Mapping[str, Mapping[str, str]]]
"""Host -> the subsets that any DestinationRule gives it -> their labels."""


def _subsets(world: World) -> Subsets:
    found: dict[str, dict[str, Mapping[str, str]]] = {}
    for rule in world.destination_rules:
        host = qualified(rule.spec.host, rule.namespace)
        found.setdefault(host, {}).update((subset.name, subset.labels) for subset in rule.spec.subsets)
    return found


def _in_routes(one: Resource[VirtualService], world: World, subsets: Subsets) -> Iterator[tuple[Place, str]]:
    for index, route in enumerate(one.spec.http):
        for place, destination in _destinations(route):
            if lack := _lack(qualified(destination.host, one.namespace), destination.subset, world, subsets):
                yield (index, *place), f"{lack}: calls that go there get UNAVAILABLE"
        total = sum(each.weight for each in route.route)
        if len(route.route) > 1 and total != 100:
            yield (index, "route"), f"the weights add up to {total}, not 100: each is that share of {total}"


def _lack(host: str, subset: str, world: World, subsets: Subsets) -> str:
    """Why calls to a subset of a host (empty: to any copy) reach nobody; empty where they do."""
    entries = [one for one in world.service_entries if any(covers(each, host) for each in one.spec.hosts)]
    if not entries:
        return f"no ServiceEntry registers {host}"
    if subset and subset not in subsets.get(host, {}):
        return f"no DestinationRule of {host} has a subset {subset}"
    labels = subsets[host][subset] if subset else {}
    for entry in entries:
        selector = entry.spec.workload_selector
        if selector is None or world.workloads(entry.namespace, {**selector.labels, **labels}):
            return ""
    return f"no copy of {host} has the labels of subset {subset}" if subset else f"{host} has no copies"


def _destinations(route: HTTPRoute) -> Iterator[tuple[Place, Destination]]:
    for index, each in enumerate(route.route):
        yield ("route", index, "destination"), each.destination
    if route.mirror is not None:
        yield ("mirror",), route.mirror
    for index, policy in enumerate(route.mirrors):
        yield ("mirrors", index, "destination"), policy.destination
