"""What every sidecar shall do, and a caller without one. Law: a pure function of the resources; all holds, or none."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from mesh.envoy.proto import Json
from mesh.istio.proxies import Proxy
from mesh.istio.world import World
from mesh.local.addresses import OUTBOUND_PORT
from mesh.local.config import Config, config
from mesh.local.failure import MeshError
from mesh.local.workloads import Key, Places, Workload, placed
from mesh.proxyless.generate import generate

Address = tuple[str, int]
"""IP and port."""


@dataclass(frozen=True)
class Gateway:
    """Where the gateway calls by its sidecar (None: at the sidecar's own address alone), and which workload it is.

    Without a `key` it is the one workload that serves nothing. With `xds` it has no sidecar: it calls by gRPC's xDS
    client, whose control plane listens there.
    """

    proxy: Address | None = None
    key: Key | None = None
    xds: Address | None = None


@dataclass(frozen=True)
class Proxyless:
    """A caller without a sidecar, and what gRPC's client is told: part of a configuration -> its resources."""

    proxy: Proxy
    told: Mapping[str, Sequence[Json]]


@dataclass(frozen=True)
class Plan:
    """The workloads that have sidecars, and these' configurations; `gateway` is the gateway's key, if there is one.

    It is not among the workloads if it is `proxyless`.
    """

    trust_domain: str
    workloads: Mapping[Key, Workload]
    configs: Mapping[Key, Config]
    gateway: Key | None
    proxyless: Proxyless | None = None


def plan(world: World, places: Places, gateway: Gateway) -> Plan:
    """The plan for a world. Raises RefusedError; MeshError: which workload is the gateway cannot be told, or called."""
    moved, workloads = placed(world, places)
    if not workloads:
        what = "a process of the mesh is a WorkloadEntry with a serviceAccount"
        raise MeshError(f"there is no workload: {what} (upstream.endpoints has them rendered; a test names services)")
    caller = _gateway(workloads, gateway)
    alone = _alone(workloads, caller) if gateway.xds else None
    beside = {workload.key: workload for workload in workloads if workload is not alone}
    configs = {}
    for workload in beside.values():
        at = [(workload.proxy.ip, OUTBOUND_PORT)]
        if workload.key == caller and gateway.proxy is not None:
            at.append(gateway.proxy)
        configs[workload.key] = config(moved, workload, at)
    return Plan(world.mesh.trust_domain, beside, configs, caller, _proxyless(moved, alone) if alone else None)


def _alone(workloads: Iterable[Workload], caller: Key | None) -> Workload:
    for workload in workloads:
        if workload.key == caller:
            if workload.serves:
                raise MeshError(f"{'/'.join(workload.key)} serves calls, and without a sidecar it can only make them")
            return workload
    raise MeshError("there is no gateway that xDS could tell anything: every workload serves calls")


def _proxyless(moved: World, alone: Workload) -> Proxyless:
    # Nothing stands in its stead; so it is the same node whenever the mesh is started anew.
    proxy = alone.proxy.model_copy(update={"ip": alone.process})
    return Proxyless(proxy, generate(moved, proxy))


def _gateway(workloads: Iterable[Workload], gateway: Gateway) -> Key | None:
    keys = {workload.key: workload.serves for workload in workloads}
    if gateway.key is not None:
        if gateway.key not in keys:
            raise MeshError(f"there is no workload {'/'.join(gateway.key)}")
        return gateway.key
    callers = [key for key, serves in keys.items() if not serves]
    if len(callers) > 1 and (gateway.proxy or gateway.xds):
        names = ", ".join("/".join(key) for key in callers)
        raise MeshError(f"which workload is the gateway? {names} serve nothing; name one with --gateway NAMESPACE/NAME")
    return callers[0] if len(callers) == 1 else None
