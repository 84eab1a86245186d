"""What a running mesh says of itself to other commands. Law: written whole, and only true while the mesh runs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from pydantic import TypeAdapter

from mesh.local.addresses import ADMIN_PORT, OUTBOUND_PORT
from mesh.local.failure import MeshError
from mesh.local.files import put
from mesh.local.place import bootstrap_of, place_of, runs
from mesh.local.plan import Gateway, Plan
from mesh.local.workloads import Workload

_FILE: Final = "state.json"


@dataclass(frozen=True)
class Beside:
    """A process and its sidecar, whose identity is spiffe://TRUST_DOMAIN/ns/NAMESPACE/sa/ACCOUNT.

    `process` is the address that it listens at, on the `ports` at which the sidecar stands for it (at `address`).
    `outbound` is where the process can call by its sidecar, `admin` the sidecar's admin pages (both HOST:PORT).
    """

    namespace: str
    name: str
    account: str
    process: str
    address: str
    ports: tuple[int, ...]
    outbound: str
    admin: str


@dataclass(frozen=True)
class State:
    """A running mesh: its process, its folder, its sidecars; which workload is the gateway, and where its proxy is.

    A gateway without a sidecar has `bootstrap`, the file by which gRPC's xDS client finds its control plane, instead of
    a proxy, and is not among the workloads.
    """

    pid: int
    folder: str
    trust_domain: str
    proxy: str | None
    bootstrap: str | None
    gateway: str | None
    workloads: tuple[Beside, ...]


_STATE: Final = TypeAdapter(State)


def state_of(plan: Plan, folder: Path, place: Path, pid: int, gateway: Gateway) -> State:
    """What a mesh that carries out a plan, its files in `place`, says of itself."""
    proxy = gateway.proxy and f"{gateway.proxy[0]}:{gateway.proxy[1]}"
    return State(
        pid,
        str(folder),
        plan.trust_domain,
        proxy if plan.gateway else None,
        str(bootstrap_of(place)) if plan.proxyless else None,
        plan.gateway and "/".join(plan.gateway),
        besides(plan),
    )


def besides(plan: Plan) -> tuple[Beside, ...]:
    """The processes that have sidecars, in order."""
    return tuple(_beside(workload, plan) for _, workload in sorted(plan.workloads.items()))


def _beside(workload: Workload, plan: Plan) -> Beside:
    proxy = workload.proxy
    names = (str(listener["name"]) for listener in plan.configs[workload.key].listeners)
    return Beside(
        namespace=proxy.namespace,
        name=proxy.name,
        account=proxy.service_account,
        process=workload.process,
        address=proxy.ip,
        ports=tuple(int(name.removeprefix("inbound|")) for name in names if name.startswith("inbound|")),
        outbound=f"{proxy.ip}:{OUTBOUND_PORT}",
        admin=f"{proxy.ip}:{ADMIN_PORT}",
    )


def publish(state: State, place: Path) -> None:
    """Say it."""
    put(place / _FILE, _STATE.dump_json(state, indent=2).decode())


def find(folder: Path, environ: Mapping[str, str]) -> State:
    """The state of the mesh of a folder. Raises MeshError: it does not run."""
    place = place_of(folder, environ)
    try:
        if runs(place):
            return _STATE.validate_json((place / _FILE).read_bytes())
    except FileNotFoundError:
        raise MeshError(f"the mesh of {folder} is not up yet") from None
    raise MeshError(f"no mesh runs for {folder} ({place.parent} has none); start one with: headrace mesh up {folder}")
