"""The processes of one machine and their sidecars. Law: a workload is a WorkloadEntry that has a service account.

A sidecar stands in its process's stead: the entry is moved to an address of the sidecar's own before anything is
compiled, so that callers meet the sidecar under the very ports that the entry names. The process stays where it is. An
entry without a service account has no identity in the mesh and gets no sidecar.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from mesh.envoy.copies import targets
from mesh.istio.message import Message
from mesh.istio.proxies import Proxy
from mesh.istio.resource import Resource
from mesh.istio.workload_entry import WorkloadEntry
from mesh.istio.world import World, proxy_of
from mesh.local.refusals import refuse

Key = tuple[str, str]
"""Namespace and name of a WorkloadEntry."""
Identity = tuple[str, str, str]
"""Namespace, name and service account of a WorkloadEntry: with another account it is another workload."""


@dataclass(frozen=True)
class Workload:
    """A process and its sidecar.

    `proxy.ip` is the sidecar's address, `process` the one that the process listens at; `serves` whether it is a copy
    of any service.
    """

    proxy: Proxy
    process: str
    serves: bool

    @property
    def key(self) -> Key:
        """Its namespace and name."""
        return self.proxy.namespace, self.proxy.name

    @property
    def name(self) -> str:
        """`NAME.NAMESPACE`, as istioctl names a proxy."""
        return f"{self.proxy.name}.{self.proxy.namespace}"


def as_written(_: Key, address: str) -> str:
    """A process listens where its entry says."""
    return address


@dataclass(frozen=True)
class Places:
    """Where a workload's sidecar is, and where its process listens, whose entry says an address."""

    sidecar: Callable[[Identity], str]
    process: Callable[[Key, str], str]


def placed(world: World, places: Places) -> tuple[World, tuple[Workload, ...]]:
    """The world in which every workload is where its sidecar is, and the workloads. Raises RefusedError."""
    refuse(world)
    moved = World(world.mesh, tuple(_moved(resource, places.sidecar) for resource in world.resources))
    keys = {(entry.namespace, entry.name): entry.spec.address for entry in world.workload_entries}
    processes = {key: places.process(key, written) for key, written in keys.items()}
    found = [_workload(moved, entry, processes) for entry in moved.workload_entries if entry.spec.service_account]
    return moved, tuple(sorted(found, key=lambda one: one.key))


def _workload(world: World, entry: Resource[WorkloadEntry], processes: dict[Key, str]) -> Workload:
    proxy = proxy_of(entry)
    serves = bool(targets(world, proxy.ip, proxy.namespace))
    return Workload(proxy, processes[entry.namespace, entry.name], serves)


def _moved(resource: Resource[Message], address_of: Callable[[Identity], str]) -> Resource[Message]:
    if not isinstance(resource.spec, WorkloadEntry) or not resource.spec.service_account:
        return resource
    address = address_of((resource.namespace, resource.name, resource.spec.service_account))
    return replace(resource, spec=resource.spec.model_copy(update={"address": address}))
