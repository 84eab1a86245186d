"""What Istio sends a gRPC client, for the tests of the proxyless compiler. `python -m` this asks it anew.

That needs `istio-oracle` on PATH (see tests/interop).
"""

from __future__ import annotations

import contextlib
import json
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from mesh.ads.messages import decode, encode
from mesh.ads.server import PARTS
from mesh.envoy.proto import Json
from mesh.istio.document import RefusedError
from mesh.istio.load import load_case
from mesh.istio.proxies import Proxy
from mesh.istio.world import World
from mesh.proxyless.bootstrap import bootstrap
from mesh.proxyless.generate import generate
from tests.gateway.world import unused_address
from tests.mesh.ads.asking import asking, resolved
from tests.mesh.envoy.istio_vectors import CASES as VECTORS

HERE = Path(__file__).parent
GOLDENS = HERE / "goldens"
OWN = sorted(file.parent for file in (HERE / "cases").glob("*/config.yaml"))
ROUTES = sorted(file.parent for file in (HERE.parent / "envoy" / "route_goldens").glob("*/config.yaml"))
LISTENER = PARTS["listeners"][0]
VERSION = "1.31.0"


def loaded(case: Path) -> tuple[World, Proxy]:
    """The world of a case, and its gateway."""
    world, proxies = load_case(case)
    return world, next(proxy for proxy in proxies if proxy.name == "gateway")


def golden_of(case: Path) -> Path:
    """Where the golden of a case is; a case of this folder or of another."""
    return GOLDENS / f"{case.parent.name}-{case.name}.json"


def view(configuration: Mapping[str, Sequence[Json]]) -> dict[str, dict[str, Any]]:
    """A configuration by names, as its messages read back. What is in no order is sorted."""
    found: dict[str, dict[str, Any]] = {}
    for part, (kind, name) in PARTS.items():
        read = [decode(kind, encode(kind, one)) for one in configuration[part]]
        found[part] = {one[name]: one for one in read}
    for table in found["routes"].values():
        table.get("virtual_hosts", []).sort(key=lambda host: host["name"])
    return found


def without_addresses(seen: dict[str, dict[str, Any]], hosts: Sequence[str]) -> dict[str, dict[str, Any]]:
    """A view without the addresses of some hosts.

    Of several addresses of one service Istio tells now one, now another; gRPC's client looks at none of them.
    """
    for listener in seen["listeners"].values():
        if _routes_of(listener).rpartition("|")[2] in hosts:
            del listener["address"]
    for host in (host for table in seen["routes"].values() for host in table.get("virtual_hosts", ())):
        if host["name"].rpartition(":")[0] in hosts:
            host["domains"] = [domain for domain in host["domains"] if not _is_address(domain)]
    return seen


def of_several_addresses(world: World) -> list[str]:
    """Hosts that have several addresses, in one ServiceEntry or in several."""
    found = [(host, one.spec.addresses) for one in world.service_entries for host in one.spec.hosts]
    hosts = [host for host, _ in found]
    return [host for host, addresses in found if len(addresses) > 1 or hosts.count(host) > 1]


def node(proxy: Proxy) -> dict[str, Any]:
    """Who a gRPC client says it is to Istio."""
    told: Any = bootstrap("", proxy)["node"]
    return {**told, "metadata": {**told["metadata"], "ISTIO_VERSION": VERSION}}


@contextlib.contextmanager
def oracle(case: Path) -> Iterator[str]:
    """Istio's control plane for a case: where it serves, while inside."""
    address = unused_address()
    with subprocess.Popen(["istio-oracle", "-serve", address, case], stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            assert any(line.startswith("serving") for line in process.stdout)
            yield address
        finally:
            process.terminate()


def asked(case: Path, names: Sequence[str], clusters: Sequence[str]) -> dict[str, Any]:
    """What Istio sends: listeners of these names and of all that it lists, and what follows; clusters beside those."""
    _, proxy = loaded(case)
    with oracle(case) as address:
        with asking(address, node(proxy)) as ask:
            listed = [one["name"] for one in ask(LISTENER, [])]
        return resolved(address, node(proxy), sorted({*listed, *names}), clusters)


def _routes_of(listener: Mapping[str, Any]) -> str:
    return str(listener["api_listener"]["api_listener"]["rds"]["route_config_name"])


def _is_address(domain: str) -> bool:
    return domain.startswith("[") or domain.replace(".", "").replace(":", "").isdigit()


def _compiled(case: Path) -> dict[str, list[Json]] | None:
    try:
        return generate(*loaded(case))
    except RefusedError:
        return None


def main() -> None:
    """Write the golden of every case that is not refused, a resource a line."""
    for case in (*VECTORS, *ROUTES, *OWN):
        ours = _compiled(case)
        if ours is None:
            continue
        names = {part: [str(one[name]) for one in ours[part]] for part, (_, name) in PARTS.items()}
        istio = asked(case, names["listeners"], names["clusters"])
        parts = [
            f"{json.dumps(part)}: [\n" + ",\n".join(json.dumps(one, sort_keys=True) for one in found) + "\n]"
            for part, found in istio.items()
        ]
        golden_of(case).write_text("{" + ",\n".join(parts) + "}\n")


if __name__ == "__main__":
    main()
