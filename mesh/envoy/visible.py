"""What a sidecar sees of the mesh. Law: what is exported to its namespace and let through by its Sidecar's egress.

A host that a seen VirtualService leads to is seen, too, whatever the egress says.
Sources: Istio's pilot/pkg/model/sidecar.go, virtualservice.go and push_context.go.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from ipaddress import ip_network
from typing import TypeVar

from mesh.istio.http_route import Destination, HTTPRoute
from mesh.istio.names import covers, is_wildcard, matches, qualified
from mesh.istio.proxies import Proxy
from mesh.istio.resource import Resource
from mesh.istio.selector import Exported, is_for_sidecars
from mesh.istio.service_entry import Location, ServiceEntry, ServicePort
from mesh.istio.virtual_service import VirtualService
from mesh.istio.world import World

Egress = tuple[tuple[str, str], ...]
"""(namespace or `*`, host pattern) of what may be called."""

_EVERYTHING: Egress = (("*", "*"),)


@dataclass(frozen=True)
class Service:
    """One host of a ServiceEntry, with those of its ports that are seen."""

    host: str
    entry: Resource[ServiceEntry]
    ports: tuple[ServicePort, ...]

    @property
    def namespace(self) -> str:
        """The namespace of its ServiceEntry."""
        return self.entry.namespace

    @property
    def external(self) -> bool:
        """Whether its copies are outside the mesh, and so without the mesh's certificates."""
        return self.entry.spec.location is Location.MESH_EXTERNAL


@lru_cache(maxsize=2)
def every_service(world: World) -> tuple[Service, ...]:
    """Every host of every ServiceEntry: the oldest first, then by host and namespace."""
    services = [
        Service(host, entry, entry.spec.ports)
        for entry in world.service_entries
        for host in dict.fromkeys(entry.spec.hosts)
    ]
    return tuple(sorted(services, key=lambda one: (one.entry.metadata.creation_timestamp, one.host, one.namespace)))


@lru_cache(maxsize=2)
def entries(world: World) -> Mapping[tuple[str, str], tuple[Resource[ServiceEntry], ...]]:
    """(host, namespace) -> the ServiceEntries that register it there, the oldest first.

    An entry is there once for each of its addresses: Istio makes a service of each, and lists the copies as often.
    """
    found: dict[tuple[str, str], tuple[Resource[ServiceEntry], ...]] = {}
    for one in every_service(world):
        addresses = {str(ip_network(address, strict=False)) for address in one.entry.spec.addresses}
        key = (one.host, one.namespace)
        found[key] = found.get(key, ()) + (one.entry,) * max(1, len(addresses))
    return found


def services(world: World, proxy: Proxy) -> tuple[Service, ...]:
    """The services that a sidecar may call, each host once, in Istio's order."""
    everyone = every_service(world)
    seen: dict[str, Service] = {}
    for service in imported(world, proxy):
        _add(seen, service)
    for virtual_service in virtual_services(world, proxy):
        for host, ports in _destinations(virtual_service, proxy.namespace).items():
            found = _find(everyone, host, proxy.namespace)
            if found is not None and (narrowed := _with_ports(found, ports)) is not None:
                _add(seen, narrowed)
    return tuple(seen.values())


def virtual_services(world: World, proxy: Proxy) -> tuple[Resource[VirtualService], ...]:
    """The VirtualServices that hold for a sidecar's calls, in Istio's order."""
    egress = _egress(world, proxy)

    def let_through(one: Resource[VirtualService]) -> bool:
        if not is_for_sidecars(one.spec.gateways):
            return False
        hosts = [qualified(host, one.namespace) for host in one.spec.hosts]
        patterns = [pattern for namespace, pattern in egress if namespace in ("*", one.namespace)]
        return any(matches(host, pattern) for host in hosts for pattern in patterns)

    exported = _exported(world.virtual_services, lambda one: one, proxy.namespace)
    return tuple(sorted(filter(let_through, exported), key=lambda one: not _private(one, proxy.namespace)))


def _private(one: Resource[VirtualService], namespace: str) -> bool:
    """Whether a VirtualService is of a namespace and not for all."""
    return one.namespace == namespace and bool(one.spec.export_to) and "*" not in one.spec.export_to


def _egress(world: World, proxy: Proxy) -> Egress:
    sidecar = world.sidecar(proxy)
    if sidecar is None or not sidecar.spec.egress:
        return _EVERYTHING
    return tuple(pair for listener in sidecar.spec.egress for pair in listener.pairs(proxy.namespace))


Item = TypeVar("Item")


def _exported(items: Iterable[Item], of: Callable[[Item], Resource[Exported]], to: str) -> tuple[Item, ...]:
    """What is exported to a namespace: first what names it, then what is for all. A kind's order stays."""
    named: list[Item] = []
    public: list[Item] = []
    for item in items:
        resource = of(item)
        if not resource.spec.export_to or "*" in resource.spec.export_to:
            public.append(item)
        elif resource.spec.seen_from(to, resource.namespace):
            named.append(item)
    return (*named, *public)


def imported(world: World, proxy: Proxy) -> tuple[Service, ...]:
    """The services that the egress lets through. Of a host in two namespaces: the sidecar's own, or else the first."""
    egress = _egress(world, proxy)
    found = [
        service
        for service in _candidates(every_service(world), egress, proxy.namespace)
        if any(namespace in ("*", service.namespace) and covers(pattern, service.host) for namespace, pattern in egress)
    ]
    chosen: dict[str, str] = {}
    for service in found:
        if service.host not in chosen or service.namespace == proxy.namespace:
            chosen[service.host] = service.namespace
    return tuple(service for service in found if chosen[service.host] == service.namespace)


def _candidates(everyone: Sequence[Service], egress: Egress, namespace: str) -> Sequence[Service]:
    """What is exported to a namespace; where egress names each host in full, of a host's entries the oldest only."""
    if any(space == "*" or is_wildcard(pattern) for space, pattern in egress):
        return _exported(everyone, lambda one: one.entry, namespace)
    oldest: dict[tuple[str, str], Service] = {}
    for service in everyone:
        oldest.setdefault((service.host, service.namespace), service)
    return [one for one in oldest.values() if one.entry.spec.seen_from(namespace, one.namespace)]


def _destinations(resource: Resource[VirtualService], namespace: str) -> Mapping[str, set[int]]:
    """Host -> ports that a VirtualService leads callers of a namespace to; 0 stands for any port."""
    found: dict[str, set[int]] = {}
    for route in resource.spec.http:
        if _is_for(route, namespace):
            for destination in _destinations_of(route):
                host = qualified(destination.host, resource.namespace)
                found.setdefault(host, set()).add(destination.port.number if destination.port else 0)
    return found


def _destinations_of(route: HTTPRoute) -> Iterator[Destination]:
    yield from (target.destination for target in route.route)
    if route.mirror is not None:
        yield route.mirror
    yield from (mirror.destination for mirror in route.mirrors)


def _is_for(route: HTTPRoute, namespace: str) -> bool:
    matched = True
    for match in route.match:
        if match.source_namespace == namespace:
            return True
        matched = matched and not match.source_namespace
    return matched


def _find(everyone: Sequence[Service], host: str, namespace: str) -> Service | None:
    """The service of a host: the namespace's own, or else the oldest that is exported to it."""
    found = [service for service in everyone if service.host == host]
    own = (service for service in found if service.namespace == namespace)
    visible = (one for one in found if one.entry.spec.seen_from(namespace, one.namespace))
    return next(own, None) or next(visible, None)


def _with_ports(service: Service, ports: set[int]) -> Service | None:
    if not ports or 0 in ports:
        return service
    found = tuple(port for port in service.ports if port.number in ports)
    return replace(service, ports=found) if found else None


def _add(seen: dict[str, Service], service: Service) -> None:
    """Add a service, or its ports to those of the service of that host that is there, if the two are alike."""
    there = seen.setdefault(service.host, service)
    if there is not service and _alike(there.entry, service.entry):
        numbers = {port.number for port in there.ports}
        more = tuple(port for port in service.ports if port.number not in numbers)
        seen[service.host] = replace(there, ports=there.ports + more)


def _alike(one: Resource[ServiceEntry], other: Resource[ServiceEntry]) -> bool:
    def essence(entry: Resource[ServiceEntry]) -> tuple[object, ...]:
        selector = entry.spec.workload_selector
        wanted = dict(selector.labels) if selector else {}
        return entry.namespace, entry.spec.resolution, dict(entry.metadata.labels), wanted, set(entry.spec.export_to)

    return essence(one) == essence(other)
