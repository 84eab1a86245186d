"""A service with three copies and a gateway that calls it, as resources; and what tests of a local mesh share."""

from __future__ import annotations

import contextlib
import json
import random
import socket
import ssl
import time
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import count
from pathlib import Path
from typing import Any, TypeVar

import aiohttp
import psutil
from cryptography import x509

from mesh.envoy.admin import Admin
from mesh.istio.document import read_documents
from mesh.istio.mesh_config import MeshConfig
from mesh.istio.resource import read_resources
from mesh.istio.world import World
from mesh.local.addresses import ADMIN_PORT, SIDECARS, Addresses, is_free
from mesh.local.authority import Authority
from mesh.local.binary import find
from mesh.local.fleet import Fleet, Means
from mesh.local.plan import Gateway, Plan, plan
from mesh.local.state import Beside
from mesh.local.workloads import Key, Places, as_written
from tests.envoy import ENVOY

T = TypeVar("T")

DIGITS = "digits.models.svc.cluster.local:8001"

SERVICE = """
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: digits, namespace: models}
spec:
  hosts: [digits.models.svc.cluster.local]
  location: MESH_INTERNAL
  resolution: STATIC
  ports: [{number: 8001, name: grpc, protocol: GRPC}]
  workloadSelector: {labels: {app: digits}}
"""
# Nothing is tried again, so that every failure is seen.
ROUTES = """
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: digits, namespace: models}
spec:
  hosts: [digits.models.svc.cluster.local]
  http:
  - timeout: 5s
    retries: {attempts: 0}
    route:
    - {destination: {host: digits.models.svc.cluster.local, subset: v1}, weight: 90}
    - {destination: {host: digits.models.svc.cluster.local, subset: v2}, weight: 10}
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: digits, namespace: models}
spec:
  host: digits.models.svc.cluster.local
  trafficPolicy:
    tls: {mode: ISTIO_MUTUAL}
    outlierDetection: {consecutive5xxErrors: 4, interval: 1s, baseEjectionTime: 60s, maxEjectionPercent: 100}
  subsets: [{name: v1, labels: {version: v1}}, {name: v2, labels: {version: v2}}]
"""


def weighed(v1: int) -> str:
    """The same, with so many of 100 calls for v1."""
    return ROUTES.replace("weight: 90", f"weight: {v1}").replace("weight: 10}", f"weight: {100 - v1}}}")


STRICT = """
apiVersion: security.istio.io/v1
kind: PeerAuthentication
metadata: {name: default, namespace: models}
spec: {mtls: {mode: STRICT}}
"""
GATEWAY_ALONE = """
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: digits, namespace: models}
spec:
  selector: {matchLabels: {app: digits}}
  rules: [{from: [{source: {principals: [cluster.local/ns/infer/sa/gateway]}}]}]
"""
CALLER = """
apiVersion: networking.istio.io/v1
kind: WorkloadEntry
metadata: {name: gateway, namespace: infer}
spec: {address: 127.0.0.1, labels: {app: gateway}, serviceAccount: gateway}
"""


def copy(name: str, version: str, port: int, account: str = "digits", address: str = "127.0.0.1") -> str:
    """The WorkloadEntry of a copy of the service."""
    return f"""
apiVersion: networking.istio.io/v1
kind: WorkloadEntry
metadata: {{name: {name}, namespace: models}}
spec:
  address: {address}
  ports: {{grpc: {port}}}
  labels: {{app: digits, version: {version}}}
  serviceAccount: {account}
"""


COPIES = (copy("one", "v1", 8101), copy("two", "v1", 8102), copy("canary", "v2", 8103))


def joined(*documents: str) -> str:
    """One file of them."""
    return "---".join(documents)


ALL = joined(SERVICE, ROUTES, STRICT, GATEWAY_ALONE, CALLER, *COPIES)


def for_grpc(text: str) -> str:
    """Without what gRPC's own client cannot do."""
    kept = (line for line in text.splitlines() if "outlierDetection" not in line)
    return "".join(f"{line}\n" for line in kept).replace("- timeout: 5s\n    retries", "- retries")


FOR_GRPC = for_grpc(ALL)


def world(*documents: str, mesh: MeshConfig = MeshConfig()) -> World:  # noqa: B008 - it is frozen
    """The world of some documents."""
    return World(mesh, read_resources(read_documents(joined(*documents), "test.yaml")))


def numbered() -> Places:
    """Sidecars at 127.0.1.1 and so on, one for each identity; processes where they say."""
    numbers = count(1)
    given: dict[object, str] = {}
    return Places(lambda key: given.setdefault(key, f"127.0.1.{next(numbers)}"), as_written)


def planned(*documents: str, gateway: Gateway = Gateway(), places: Places | None = None) -> Plan:  # noqa: B008 - it is frozen
    """The plan for some documents."""
    return plan(world(*documents), places or numbered(), gateway)


def only(plan: Plan, *keys: Key) -> Plan:
    """Of a plan, what is for these workloads."""
    workloads = {key: plan.workloads[key] for key in keys}
    return replace(plan, workloads=workloads, configs={key: plan.configs[key] for key in keys})


def folder(path: Path, **files: str) -> Path:
    """A folder of resources: name -> text of each file."""
    path.mkdir(exist_ok=True)
    for name, text in files.items():
        (path / f"{name}.yaml").write_text(text)
    return path


def names(path: Path) -> list[str]:
    """What is in a folder."""
    return sorted(each.name for each in path.iterdir())


def eventually(condition: Callable[[], T], what: str = "it", patience: float = 20.0) -> T:
    """What the condition gives, once it is true; fails if it is not in time."""
    deadline = time.monotonic() + patience
    while not (value := condition()):
        assert time.monotonic() < deadline, f"{what} did not happen within {patience:g} s"
        time.sleep(0.01)
    return value


def envoys_at(address: str) -> list[psutil.Process]:
    """The Envoys whose sidecar is at an address."""
    found = []
    for pid in psutil.pids():
        with contextlib.suppress(psutil.Error):
            process = psutil.Process(pid)  # not process_iter's, which remember the program that there was at first
            if Path(process.exe()).name == "envoy" and any(f"~{address}~" in word for word in process.cmdline()):
                found.append(process)
    return found


def envoy_of(sidecar: Beside) -> psutil.Process:
    """The one Envoy of a sidecar that runs now."""
    (found,) = eventually(lambda: envoys_at(sidecar.address), f"an Envoy at {sidecar.address}")
    return found


def certificate_at(sidecar: Beside) -> x509.Certificate:
    """The certificate that a sidecar shows to a new connection."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.set_alpn_protocols(["istio", "h2"])
    with (
        socket.create_connection((sidecar.address, sidecar.ports[0]), timeout=10) as plain,
        context.wrap_socket(plain) as secure,
    ):
        shown = secure.getpeercert(binary_form=True)
    assert shown is not None
    return x509.load_der_x509_certificate(shown)


@contextlib.contextmanager
def listening(address: str = "127.0.0.1") -> Iterator[int]:
    """A port at which someone else listens."""
    with socket.socket() as other:
        other.bind((address, 0))
        other.listen()
        yield other.getsockname()[1]


@contextlib.asynccontextmanager
async def fleet(place: Path, told: list[str] | None = None) -> AsyncIterator[Fleet]:
    """Sidecars that end with it; their files are in the place."""
    tell = (told if told is not None else []).append
    async with aiohttp.ClientSession() as session:
        binary, authority = find(Path(ENVOY or "envoy")), Authority("cluster.local", datetime.now(UTC))
        made = Fleet(
            Means(
                place, binary, "cluster.local", authority, timedelta(hours=1), lambda: datetime.now(UTC), session, tell
            )
        )
        try:
            yield made
        finally:
            await made.stop()


def free_places() -> Places:
    """Sidecars where nobody else is."""
    return Places(Addresses(SIDECARS, random.random, is_free).of, as_written)


async def page(address: str, path: str, **query: str) -> str:
    """An admin page of the sidecar at an address."""
    async with aiohttp.ClientSession() as session:
        return await Admin(session, f"{address}:{ADMIN_PORT}").get(path, **query)


async def in_force(address: str) -> dict[str, Any]:
    """What the Envoy at an address does: clusters, routes and listeners by name, without when and by which version."""
    dump = json.loads(await page(address, "config_dump"))
    found: dict[str, Any] = {}
    for part in dump["configs"]:
        for one in part.get("dynamic_active_clusters", []):
            found[one["cluster"]["name"]] = one["cluster"]
        for one in part.get("dynamic_route_configs", []):
            found[f"routes {one['route_config']['name']}"] = one["route_config"]
        for one in part.get("dynamic_listeners", []):
            found[f"listener {one['name']}"] = one["active_state"]["listener"]
            assert "warming_state" not in one
    return found
