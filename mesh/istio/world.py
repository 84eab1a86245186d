"""The world: every resource of a mesh, by what asks for it. Law: who may see what is decided here, by Istio's rules.

All orders are Istio's: the oldest resource first, then by name and namespace (`Resource.age`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TypeVar

from mesh.istio.authorization_policy import AuthorizationPolicy
from mesh.istio.destination_rule import DestinationRule
from mesh.istio.mesh_config import MeshConfig
from mesh.istio.message import Message
from mesh.istio.names import covers, is_wildcard, labels_match
from mesh.istio.peer_authentication import PeerAuthentication
from mesh.istio.proxies import Proxy
from mesh.istio.request_authentication import RequestAuthentication
from mesh.istio.resource import Resource
from mesh.istio.selector import Workload
from mesh.istio.service_entry import ServiceEntry
from mesh.istio.sidecar import Sidecar
from mesh.istio.telemetry import Telemetry, Tracing
from mesh.istio.virtual_service import VirtualService
from mesh.istio.workload_entry import WorkloadEntry

Kind = TypeVar("Kind", bound=Message)


@dataclass(frozen=True, eq=False)
class World:
    """Everything that the configuration of any proxy follows from.

    Worlds are told apart by identity, so that what follows from one for every proxy is found once and kept.
    """

    mesh: MeshConfig
    resources: tuple[Resource[Message], ...]

    def of(self, kind: type[Kind]) -> tuple[Resource[Kind], ...]:
        """Every resource of a kind, the oldest first."""
        found = [
            Resource(resource.kind, resource.metadata, resource.spec, resource.position)
            for resource in self.resources
            if isinstance(resource.spec, kind)
        ]
        return tuple(sorted(found, key=lambda resource: resource.age))

    @cached_property
    def virtual_services(self) -> tuple[Resource[VirtualService], ...]:
        """Every VirtualService."""
        return self.of(VirtualService)

    @cached_property
    def destination_rules(self) -> tuple[Resource[DestinationRule], ...]:
        """Every DestinationRule."""
        return self.of(DestinationRule)

    @cached_property
    def service_entries(self) -> tuple[Resource[ServiceEntry], ...]:
        """Every ServiceEntry."""
        return self.of(ServiceEntry)

    @cached_property
    def workload_entries(self) -> tuple[Resource[WorkloadEntry], ...]:
        """Every WorkloadEntry."""
        return self.of(WorkloadEntry)

    @cached_property
    def every_peer_authentication(self) -> tuple[Resource[PeerAuthentication], ...]:
        """Every PeerAuthentication."""
        return self.of(PeerAuthentication)

    @cached_property
    def services(self) -> Mapping[str, Resource[ServiceEntry]]:
        """Host -> the oldest ServiceEntry that registers it."""
        found: dict[str, Resource[ServiceEntry]] = {}
        for entry in self.service_entries:
            for host in entry.spec.hosts:
                found.setdefault(host, entry)
        return found

    def workloads(self, namespace: str, labels: Mapping[str, str]) -> tuple[Resource[WorkloadEntry], ...]:
        """The copies in a namespace with these labels."""
        found = (entry for entry in self.workload_entries if entry.namespace == namespace)
        return tuple(entry for entry in found if labels_match(labels, workload_labels(entry)))

    def peer_authentications(self, workload: Workload) -> tuple[Resource[PeerAuthentication], ...]:
        """Those that hold for a workload: its namespace's, then the mesh's."""
        return _selecting(self.every_peer_authentication, (workload.namespace, self.mesh.root_namespace), workload)

    def authorization_policies(self, workload: Proxy) -> tuple[Resource[AuthorizationPolicy], ...]:
        """Those that hold for a workload: the mesh's, then its namespace's."""
        return _selecting(self.of(AuthorizationPolicy), (self.mesh.root_namespace, workload.namespace), workload)

    def request_authentications(self, workload: Proxy) -> tuple[Resource[RequestAuthentication], ...]:
        """Those that hold for a workload: its namespace's, then the mesh's."""
        return _selecting(self.of(RequestAuthentication), (workload.namespace, self.mesh.root_namespace), workload)

    def tracing(self, workload: Proxy) -> tuple[Tracing, ...]:
        """What Telemetry resources say of a workload: the mesh's, its namespace's, its own; what comes later wins."""
        found = self.of(Telemetry)
        namespaces = dict.fromkeys((self.mesh.root_namespace, workload.namespace))
        wide = [next((one for one in found if one.namespace == each and not _labels(one)), None) for each in namespaces]
        own = [one for one in found if one.namespace == workload.namespace and _labels(one)]
        own = [one for one in own if labels_match(_labels(one), workload.labels)]
        return tuple(tracing for one in (*wide, *own) if one is not None for tracing in one.spec.tracing)

    def registered(self, service: str) -> str | None:
        """The host of a service that is named HOST or NAMESPACE/HOST; None where there is none, or more than one."""
        namespace, _, host = service.rpartition("/")
        entries = [entry for entry in self.service_entries if host in entry.spec.hosts]
        namespaces = {entry.namespace for entry in entries if namespace in ("", entry.namespace)}
        return host if len(namespaces) == 1 else None

    def sidecar(self, workload: Proxy) -> Resource[Sidecar] | None:
        """The one Sidecar that holds for a workload: by its labels, its namespace's, or the mesh's."""
        sidecars = self.of(Sidecar)
        for sidecar in sidecars:
            selector = sidecar.spec.workload_selector
            if sidecar.namespace == workload.namespace and selector and labels_match(selector.labels, workload.labels):
                return sidecar
        for namespace in (workload.namespace, self.mesh.root_namespace):
            for sidecar in sidecars:
                if sidecar.namespace == namespace and sidecar.spec.workload_selector is None:
                    return sidecar
        return None


def _labels(telemetry: Resource[Telemetry]) -> Mapping[str, str]:
    return telemetry.spec.selector.labels if telemetry.spec.selector else {}


def workload_labels(entry: Resource[WorkloadEntry]) -> Mapping[str, str]:
    """A copy's labels; those of its metadata win over those of its spec."""
    return {**entry.spec.labels, **entry.metadata.labels}


def proxy_of(entry: Resource[WorkloadEntry]) -> Proxy:
    """The sidecar that a copy has, at the copy's address."""
    return Proxy(
        name=entry.name,
        namespace=entry.namespace,
        service_account=entry.spec.service_account or "default",
        ip=entry.spec.address,
        labels=workload_labels(entry),
    )


def most_specific(host: str, patterns: Iterable[str]) -> str | None:
    """The pattern that covers a host most narrowly: the host itself, or the longest wildcard."""
    return max((pattern for pattern in patterns if covers(pattern, host)), key=_narrowness, default=None)


def _narrowness(pattern: str) -> tuple[bool, int, str]:
    return not is_wildcard(pattern), len(pattern), pattern


Selecting = TypeVar("Selecting", PeerAuthentication, AuthorizationPolicy, RequestAuthentication)


def _selecting(
    found: Sequence[Resource[Selecting]], namespaces: Iterable[str], workload: Workload
) -> tuple[Resource[Selecting], ...]:
    """Those of the namespaces, in their order, whose selector matches the workload or is not there."""
    return tuple(
        one
        for namespace in dict.fromkeys(namespaces)
        for one in found
        if one.namespace == namespace
        and (one.spec.selector is None or labels_match(one.spec.selector.labels, workload.labels))
    )
