"""The services of one port, by host. Law: a VirtualService routes for what it names, on every port that this has.

A service under several VirtualServices with wildcards belongs to the narrowest. Sources: Istio's selectVirtualServices,
separateVSHostsAndServices and computeWildcardHostVirtualServiceIndex.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from mesh.envoy.visible import Service
from mesh.istio.names import is_wildcard, matches, qualified
from mesh.istio.resource import Resource
from mesh.istio.virtual_service import VirtualService
from mesh.istio.world import most_specific

HTTP_PORT: Final = 80
"""Where Istio lets VirtualServices route for hosts that no one registered."""

Registry = Mapping[str, Service]
"""Host in lower case -> service."""


def services_of_port(services: Sequence[Service], port: int) -> Registry:
    """The services that have a port. Of several for one host the last counts."""
    return {one.host.lower(): one for one in services if any(own.number == port for own in one.ports)}


def hosts_of(resource: Resource[VirtualService]) -> tuple[str, ...]:
    """The full names of a VirtualService's hosts."""
    return tuple(qualified(host, resource.namespace) for host in resource.spec.hosts)


def concerned(resource: Resource[VirtualService], registry: Registry) -> bool:
    """Whether a VirtualService has a host in common with a service."""
    wild = [host for host in registry if is_wildcard(host)]
    for host in map(str.lower, hosts_of(resource)):
        if host in registry or any(matches(host, other) for other in (registry if is_wildcard(host) else wild)):
            return True
    return False


def narrowest(
    services: Sequence[Service], virtual_services: Sequence[Resource[VirtualService]]
) -> Mapping[str, Resource[VirtualService]]:
    """Host in lower case -> the VirtualService that names it most narrowly; of equals, the first."""
    by_host: dict[str, Resource[VirtualService]] = {}
    for resource in virtual_services:
        for host in hosts_of(resource):
            by_host.setdefault(host, resource)
    found = {service.host.lower(): most_specific(service.host, by_host) for service in services}
    return {host: by_host[best] for host, best in found.items() if best is not None}


def split(
    resource: Resource[VirtualService], registry: Registry, best: Mapping[str, Resource[VirtualService]]
) -> tuple[tuple[str, ...], tuple[Service, ...]]:
    """A VirtualService's hosts that are no services, and the services that it routes for."""
    others: list[str] = []
    found: list[Service] = []
    hosts = hosts_of(resource)
    for host in (one for one in hosts if not is_wildcard(one)):
        if service := registry.get(host.lower()):
            found.append(service)
        else:
            others.append(host)
    for host in (one.lower() for one in hosts if is_wildcard(one)):
        covered = [name for name in registry if matches(name, host)]
        found += [registry[name] for name in covered if best.get(name) is resource]
        if not covered:
            others.append(host)
    return tuple(others), tuple(found)
