"""`istioctl proxy-config` on the Envoys of a local mesh: people debug it with the tool that they know."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path
from urllib.request import urlopen

import pytest

from mesh.testing import Mesh, running
from tests.mesh.local.scene import ALL, folder

pytestmark = pytest.mark.interop


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mesh]:
    with running(folder(tmp_path_factory.mktemp("mesh") / "istio", all=ALL)) as made:
        yield made


@pytest.mark.parametrize("workload", ["gateway", "one"])
@pytest.mark.parametrize(
    ("what", "row"),
    [
        ("routes", ["outbound", "digits.models.svc.cluster.local:8001", "/*", "digits.models"]),
        ("clusters", ["digits.models.svc.cluster.local", "8001", "v2", "outbound", "STATIC", "digits.models"]),
        ("listeners", ["ADDRESS", "15001", "ALL", "Route:", "outbound"]),
    ],
)
def test_it_reads_what_an_envoy_tells(what: str, row: list[str], workload: str, digits: Mesh, tmp_path: Path) -> None:
    sidecar = digits.sidecars[workload]
    dump = tmp_path / "dump.json"
    with urlopen(f"http://{sidecar.admin}/config_dump") as page:
        dump.write_bytes(page.read())
    command = ["istioctl", "proxy-config", what, "--file", str(dump)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    rows = [line.split() for line in done.stdout.splitlines()]
    assert [sidecar.address if cell == "ADDRESS" else cell for cell in row] in rows
