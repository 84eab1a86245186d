"""What every sidecar shall do. Law: a pure function of the resources; all of it holds, or none."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from mesh.istio.world import World
from mesh.local.bootstrap import OUTBOUND_PORT
from mesh.local.config import Config, config
from mesh.local.failure import MeshError
from mesh.local.workloads import Key, Places, Workload, placed

Address = tuple[str, int]
"""IP and port."""


@dataclass(frozen=True)
class Gateway:
    """Where the gateway calls by its sidecar (None: at the sidecar's own address alone), and which workload it is.

    Without a `key` it is the one workload that serves nothing.
    """

    proxy: Address | None = None
    key: Key | None = None


@dataclass(frozen=True)
class Plan:
    """The workloads and their sidecars' configurations; `gateway` is the key of the gateway's, if there is one."""

    trust_domain: str
    workloads: Mapping[Key, Workload]
    configs: Mapping[Key, Config]
    gateway: Key | None


def plan(world: World, places: Places, gateway: Gateway) -> Plan:
    """The plan for a world. Raises RefusedError; MeshError: which workload is the gateway cannot be told."""
    moved, workloads = placed(world, places)
    if not workloads:
        raise MeshError("there is no workload: a process of the mesh is a WorkloadEntry with a serviceAccount")
    caller = _gateway(workloads, gateway)
    configs = {}
    for workload in workloads:
        at = [(workload.proxy.ip, OUTBOUND_PORT)]
        if workload.key == caller and gateway.proxy is not None:
            at.append(gateway.proxy)
        configs[workload.key] = config(moved, workload, at)
    return Plan(world.mesh.trust_domain, {workload.key: workload for workload in workloads}, configs, caller)


def _gateway(workloads: Iterable[Workload], gateway: Gateway) -> Key | None:
    keys = {workload.key: workload.serves for workload in workloads}
    if gateway.key is not None:
        if gateway.key not in keys:
            raise MeshError(f"there is no workload {'/'.join(gateway.key)}")
        return gateway.key
    callers = [key for key, serves in keys.items() if not serves]
    if len(callers) > 1 and gateway.proxy is not None:
        names = ", ".join("/".join(key) for key in callers)
        raise MeshError(f"which workload is the gateway? {names} serve nothing; name one with --gateway NAMESPACE/NAME")
    return callers[0] if len(callers) == 1 else None
