"""The catalogs of the tests: what each is rendered to, and the world and the proxies that come of it.

`python -m tests.mesh.render.rendered` writes anew what lies beside each `headrace.yaml`: the rendered files and, with
`istio-oracle` on PATH (tests/interop/tools.sh), what Istio's own control plane makes of them.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

from gateway.settings import load
from headrace.rendering import source_of
from mesh.istio.load import load_world
from mesh.istio.proxies import Proxy
from mesh.istio.resource import Resource
from mesh.istio.workload_entry import WorkloadEntry
from mesh.istio.world import World, workload_labels
from mesh.render.files import render
from mesh.render.source import Source

FOLDER = Path(__file__).parent / "catalogs"
CATALOGS = sorted(file.parent for file in FOLDER.glob("*/headrace.yaml"))
LOCAL = [catalog for catalog in CATALOGS if (catalog / "istio" / "workloads.yaml").exists()]
"""Those of a mesh on one machine: the others have services that only their cluster knows."""
MESH = "rootNamespace: istio-system\ntrustDomain: cluster.local\nenableAutoMtls: true\nenableTracing: false\n"
GATEWAY, WORKER = "gateway", "worker"


def source(catalog: Path) -> Source:
    """What a catalog is rendered from."""
    return source_of(load(catalog / "headrace.yaml", {}))


def committed(catalog: Path) -> dict[str, str]:
    """File name -> text of what lies beside a catalog."""
    return {file.name: file.read_text() for file in sorted((catalog / "istio").iterdir())}


def world(catalog: Path) -> World:
    """The world of the files that lie beside a catalog."""
    return load_world(sorted((catalog / "istio").iterdir()))


def proxies(world: World) -> dict[str, Proxy]:
    """The gateway's sidecar, and that of the first worker."""
    entries = world.workload_entries
    found = {
        GATEWAY: next(entry for entry in entries if not entry.spec.ports),
        WORKER: next(entry for entry in entries if entry.spec.ports),
    }
    return {name: _proxy(name, entry) for name, entry in found.items()}


def port(world: World) -> int:
    """The port that the first worker listens on."""
    return next(entry.spec.ports["grpc"] for entry in world.workload_entries if entry.spec.ports)


def _proxy(name: str, entry: Resource[WorkloadEntry]) -> Proxy:
    account = entry.spec.service_account
    labels = workload_labels(entry)
    return Proxy(name=name, namespace=entry.namespace, service_account=account, ip=entry.spec.address, labels=labels)


def golden(catalog: Path, proxy: str) -> dict[str, Any]:
    """What Istio generates for a proxy of a catalog."""
    return cast("dict[str, Any]", json.loads((catalog / f"{proxy}.json").read_text()))


def asked(files: Mapping[str, str], proxies: Mapping[str, Proxy], mesh: str = MESH) -> dict[str, Any]:
    """Proxy -> what Istio's own control plane generates for it, asked afresh."""
    told = [one.model_dump(by_alias=True) | {"name": name} for name, one in proxies.items()]
    with tempfile.TemporaryDirectory() as folder:
        case = Path(folder)
        (case / "config.yaml").write_text("\n---\n".join(files.values()))
        (case / "proxies.yaml").write_text(json.dumps(told))
        (case / "mesh.yaml").write_text(mesh)
        subprocess.run(["istio-oracle", folder], check=True, capture_output=True, timeout=120)
        return {name: json.loads((case / f"{name}.json").read_text()) for name in proxies}


def main() -> None:
    """Write what lies beside each catalog."""
    for catalog in CATALOGS:
        files = render(source(catalog), {})
        shutil.rmtree(catalog / "istio", ignore_errors=True)
        (catalog / "istio").mkdir()
        for name, text in files.items():
            (catalog / "istio" / name).write_text(text)
        if "workloads.yaml" in files and shutil.which("istio-oracle", path=os.environ["PATH"]):
            for name, config in asked(files, proxies(world(catalog))).items():
                (catalog / f"{name}.json").write_text(json.dumps(config, separators=(",", ":")) + "\n")


if __name__ == "__main__":
    main()
