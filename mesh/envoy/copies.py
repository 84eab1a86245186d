"""The copies behind a service's port. Law: an address and a port for each, and whether it speaks the mesh's TLS.

A copy is a WorkloadEntry that the service selects, an endpoint that it lists, or, found by DNS, its host itself.
Services of one host and namespace share their copies. Source: Istio's pilot/pkg/serviceregistry/serviceentry.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache

from mesh.envoy.proto import refusal
from mesh.envoy.visible import Service, entries
from mesh.istio.message import Message, Place
from mesh.istio.names import is_ip, labels_match
from mesh.istio.resource import Resource
from mesh.istio.service_entry import Resolution, ServiceEntry, ServicePort
from mesh.istio.workload_entry import WorkloadEntry
from mesh.istio.world import World, workload_labels


@dataclass(frozen=True)
class Copy:
    """One copy of a service's port. `identity` is the SPIFFE ID of its certificate; without one, it has no sidecar."""

    name: str
    namespace: str
    address: str
    port: int
    labels: Mapping[str, str]
    weight: int
    identity: str | None


def copies(world: World, service: Service, port: ServicePort, labels: Mapping[str, str] | None = None) -> list[Copy]:
    """The copies of a service's port that have these labels, in Istio's order."""
    by_dns = service.entry.spec.resolution is not Resolution.STATIC
    return [
        copy
        for _, own, copy in _of_host(world, service.host, service.namespace)
        if (own.number == port.number if by_dns else own.name == port.name and is_ip(copy.address))  # Istio's two ways
        and labels_match(labels or {}, copy.labels)
    ]


def identities(world: World, service: Service) -> list[str]:
    """Whom a caller may find at a service: its copies' identities and the names that it lists itself, sorted."""
    of_copies = {copy.identity for _, _, copy in _of_host(world, service.host, service.namespace)}
    listed = entries(world)[service.host, service.namespace][-1].spec.subject_alt_names
    return sorted({name for name in of_copies if name is not None} | set(listed))


def everyone(world: World) -> Iterator[tuple[Resource[ServiceEntry], Copy]]:
    """Every copy of every port of every service, and who registered it."""
    for host, where in entries(world):
        for entry, _, copy in _of_host(world, host, where):
            yield entry, copy


def targets(world: World, address: str, namespace: str) -> list[tuple[Service, ServicePort, Copy]]:
    """What a workload of an address serves: the oldest service first, each with its port and the workload's own."""
    found = [
        (Service(host, entry, entry.spec.ports), port, copy)
        for host, where in entries(world)
        if where == namespace
        for entry, port, copy in _of_host(world, host, where)
        if copy.address == address
    ]
    return sorted(found, key=lambda one: (one[0].entry.metadata.creation_timestamp, one[0].host))


def _of_host(world: World, host: str, namespace: str) -> Iterator[tuple[Resource[ServiceEntry], ServicePort, Copy]]:
    """Every copy of every entry for a host. DNS_ROUND_ROBIN adds one to a port that has none yet, and no more."""
    seen: set[int] = set()
    for entry in entries(world)[host, namespace]:
        one = entry.spec.resolution is Resolution.DNS_ROUND_ROBIN
        for port in entry.spec.ports:
            for copy in _of_entry(world, entry, host, port):
                if not (one and port.number in seen):
                    seen.add(port.number)
                    yield entry, port, copy


def _of_entry(world: World, entry: Resource[ServiceEntry], host: str, port: ServicePort) -> Iterator[Copy]:
    spec = entry.spec
    by_dns = spec.resolution is not Resolution.STATIC
    if spec.workload_selector is not None:
        for one in _selections(world)[entry.namespace, entry.name]:
            _refuse_istio_labels(one, one.spec, ())
            if by_dns or is_ip(one.spec.address):
                yield _copy(world, one.spec, one.name, one.namespace, workload_labels(one), port)
    elif spec.endpoints:
        for index, endpoint in enumerate(spec.endpoints):
            _refuse_istio_labels(entry, endpoint, ("endpoints", index))
            yield _copy(world, endpoint, f"{entry.name}-{index}", entry.namespace, endpoint.labels, port)
    elif by_dns:
        yield Copy(entry.name, entry.namespace, host, port.target_port or port.number, {}, 1, None)


@lru_cache(maxsize=2)
def _selections(world: World) -> Mapping[tuple[str, str], tuple[Resource[WorkloadEntry], ...]]:
    """(namespace, name) of a ServiceEntry -> what its selector selects, by name."""
    found: dict[tuple[str, str], tuple[Resource[WorkloadEntry], ...]] = {}
    for entry in world.service_entries:
        if entry.spec.workload_selector is not None:
            selected = world.workloads(entry.namespace, entry.spec.workload_selector.labels)
            found[entry.namespace, entry.name] = tuple(sorted(selected, key=lambda one: one.name))
    return found


def _copy(
    world: World, spec: WorkloadEntry, name: str, namespace: str, labels: Mapping[str, str], port: ServicePort
) -> Copy:
    number = spec.ports.get(port.name) or port.target_port or port.number
    trust_domain = world.mesh.trust_domain
    identity = f"spiffe://{trust_domain}/ns/{namespace}/sa/{spec.service_account}" if spec.service_account else None
    return Copy(name, namespace, spec.address, number, labels, spec.weight or 1, identity)


def _refuse_istio_labels(resource: Resource[Message], spec: WorkloadEntry, place: Place) -> None:
    """Labels that mean something to Istio: TLS mode, locality, network."""
    for key in _with_meaning(spec.labels):
        raise refusal(resource, (*place, "labels", key), "not implemented")


def _with_meaning(labels: Iterable[str]) -> Iterator[str]:
    for key in labels:
        domain = key.partition("/")[0] if "/" in key else ""
        if key == "istio-locality" or domain == "istio.io" or domain.endswith(".istio.io"):
            yield key
