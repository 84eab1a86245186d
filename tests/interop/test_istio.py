"""Istio's own tools on what `headrace mesh render` writes: istioctl takes it, and its control plane makes the goldens.

Of istioctl's analyzers, those that look for a cluster's own objects (Services, Pods, Namespaces) do not run on files:
istioctl itself leaves them out. Nothing that the others find is suppressed.
"""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import pytest

from mesh.istio.proxies import Proxy
from tests.mesh.envoy.istio_vectors import GATEWAY as GATEWAYS_PROXY
from tests.mesh.envoy.istio_vectors import WORKER as WORKERS_PROXY
from tests.mesh.envoy.istio_vectors import golden as golden_of_case
from tests.mesh.envoy.test_telemetry import CASE, EVERY_LEVEL
from tests.mesh.render.rendered import CATALOGS, LOCAL, MESH, asked, committed, golden, proxies, world

pytestmark = [pytest.mark.interop, pytest.mark.timeout(300)]

EVERY = pytest.mark.parametrize("catalog", CATALOGS, ids=lambda path: path.name)
DIGITS = committed(next(path for path in CATALOGS if path.name == "canary"))["digits.yaml"]
PROVIDER = """
extensionProviders:
- {name: spans, opentelemetry: {service: digits.models.svc.cluster.local, port: 8001}}
defaultProviders: {tracing: [spans]}
"""


def istioctl(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["istioctl", *arguments], capture_output=True, text=True, timeout=120, check=False)


def found(*files: Path) -> set[str]:
    """The codes of what `istioctl analyze` finds, from the least severe on, in every namespace."""
    done = istioctl("analyze", "--use-kube=false", "--all-namespaces", "--output-threshold=Info", "-o=json", *files)
    assert "adding files" not in done.stderr, done.stderr  # what it cannot read it leaves out, with a line
    return {message["code"] for message in json.loads(done.stdout)}


def edited(file: Path, old: str, new: str) -> Path:
    """The file of the catalog `canary`'s one model, changed."""
    assert old in DIGITS
    file.write_text(DIGITS.replace(old, new))
    return file


def test_the_tools_are_at_hand() -> None:
    assert [tool for tool in ("istioctl", "istio-oracle") if not shutil.which(tool)] == []


@EVERY
def test_istioctl_validates_every_file(catalog: Path) -> None:
    for file in sorted((catalog / "istio").iterdir()):
        said = istioctl("validate", "-f", file)
        assert said.returncode == 0, said.stderr
        assert "is valid" in said.stderr + said.stdout
        assert "arning" not in said.stderr + said.stdout


def test_istioctl_would_refuse_something(tmp_path: Path) -> None:
    assert istioctl("validate", "-f", edited(tmp_path / "a.yaml", "timeout: 5s", "timeout: 0s")).returncode != 0


@EVERY
def test_istioctl_analyses_it_and_finds_nothing(catalog: Path) -> None:
    assert found(*sorted((catalog / "istio").iterdir())) == set()


def test_istioctl_would_find_a_subset_that_is_not_there(tmp_path: Path) -> None:
    assert found(edited(tmp_path / "a.yaml", "subset: v1", "subset: v9")) == {"IST0101"}


def test_istioctl_would_find_two_virtual_services_of_one_host(tmp_path: Path) -> None:
    one, two = (edited(tmp_path / f"{name}.yaml", "name: digits\n", f"name: {name}\n") for name in "ab")
    assert "IST0109" in found(one, two)


@pytest.mark.parametrize("catalog", LOCAL, ids=lambda path: path.name)
def test_its_control_plane_makes_the_goldens(catalog: Path) -> None:
    for proxy, config in asked(committed(catalog), proxies(world(catalog))).items():
        assert config == golden(catalog, proxy)


def test_telemetry_without_a_provider_changes_nothing() -> None:
    files = {file.name: file.read_text() for file in (CASE.parent / "base.yaml", CASE / "config.yaml")}
    files["telemetry.yaml"] = EVERY_LEVEL
    known: dict[str, Proxy] = {"gateway": GATEWAYS_PROXY, "worker": WORKERS_PROXY}
    for proxy, config in asked(files, known).items():
        assert config == golden_of_case(CASE, proxy)
    # It is read: with a provider the samples that it asks for are there.
    assert '"client_sampling"' in json.dumps(asked(files, known, MESH + PROVIDER)["gateway"])
