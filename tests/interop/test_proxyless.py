"""Istio's control plane and gRPC's client: the goldens are Istio's, and the gateway runs by Istio's own ADS."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from google.protobuf.descriptor_pb2 import FileDescriptorSet

from mesh.ads.generate import WRITTEN
from tests.gateway.xds_world import (
    IDENTITY,
    SERVICE,
    STRICT,
    SUBSETS,
    Guarded,
    Identity,
    authority,
    calls,
    copy,
    gateway,
    guarded,
    routes,
    worker_certificate,
)
from tests.mesh.envoy.istio_vectors import VECTORS
from tests.mesh.proxyless.goldens import asked, golden_of, loaded, of_several_addresses, oracle, view, without_addresses
from tests.mesh.proxyless.test_generate import CASES

pytestmark = [pytest.mark.interop, pytest.mark.timeout(300)]


@pytest.mark.parametrize("case", CASES, ids=lambda path: path.name)
def test_istio_makes_the_goldens(case: Path) -> None:
    golden = json.loads(golden_of(case).read_text())
    several = of_several_addresses(loaded(case)[0])
    names = {part: [one["name"] for one in golden[part]] for part in ("listeners", "clusters")}
    fresh = asked(case, names["listeners"], names["clusters"])
    assert without_addresses(view(fresh), several) == without_addresses(view(golden), several)


async def test_the_gateway_runs_by_istios_control_plane(tmp_path: Path) -> None:
    """Listener, routes, clusters and endpoints are Istio's; mutual TLS, weights and retries are gRPC's."""
    ours = authority()
    workers = {"v1": Guarded(), "v2": Guarded()}
    async with contextlib.AsyncExitStack() as stack:
        for worker in workers.values():
            await stack.enter_async_context(guarded(worker, worker_certificate(ours), ours.roots))
        case = tmp_path / "case"
        case.mkdir()
        (case / "mesh.yaml").write_text((VECTORS / "cases" / "mesh.yaml").read_text())
        retried = routes(one=50, two=50, retries="{attempts: 4, retryOn: unavailable}")
        copies = [copy(version, version, worker.address) for version, worker in workers.items()]
        (case / "base.yaml").write_text("\n---\n".join([SERVICE, STRICT, SUBSETS]))
        (case / "config.yaml").write_text("\n---\n".join([retried, *copies]))
        server = stack.enter_context(oracle(case))
        door = await stack.enter_async_context(gateway(tmp_path, server, Identity(tmp_path, ours).files))
        await calls(door.infer, 100)
        assert all(30 < len(worker.infers()) < 70 for worker in workers.values())
        assert {who for worker in workers.values() for who, _ in worker.peers} == {IDENTITY}


def test_the_descriptors_are_those_of_xds_protos(tmp_path: Path) -> None:
    where = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", tmp_path, "xds-protos==1.81.1"]
    subprocess.run(where, check=True)
    again = "import sys; from mesh.ads.generate import descriptors; " + (
        "sys.stdout.buffer.write(descriptors().SerializeToString(deterministic=True))"
    )
    environ = {**os.environ, "PYTHONPATH": str(tmp_path)}
    fresh = subprocess.run([sys.executable, "-c", again], env=environ, capture_output=True, check=True).stdout
    assert _files(fresh) == _files(WRITTEN.read_bytes())


def _files(descriptors: bytes) -> dict[str, bytes]:
    """Every file but Google's own, which others bring, too."""
    found = FileDescriptorSet.FromString(descriptors).file
    return {one.name: one.SerializeToString() for one in found if not one.name.startswith("google/")}
