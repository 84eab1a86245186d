"""`headrace mesh shift --cluster`, and the files of `headrace mesh render`, against a real Kubernetes API server."""

from __future__ import annotations

import copy
import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from kubernetes.client import ApiException

from mesh.of_model import UnclearError
from mesh.shift import cluster
from mesh.shift.plan import Plan, ShiftError
from tests.interop.kubernetes_server import READER, STRANGER, UNKNOWN, Kubernetes, kubernetes
from tests.mesh.envoy.istio_vectors import CASES

pytestmark = [pytest.mark.interop, pytest.mark.timeout(300)]

CANARY = next(case for case in CASES if case.name == "all-canary") / "config.yaml"
CATALOGS = sorted(Path(__file__).parent.parent.glob("mesh/render/catalogs/*/istio"))
WANTED = {"1": 80, "2": 20}
PLACE = ("networking.istio.io", "v1", "models", "virtualservices", "digits")


def test_the_tools_are_at_hand() -> None:
    assert [tool for tool in ("etcd", "kube-apiserver", "go") if not shutil.which(tool)] == []


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kubernetes]:
    with kubernetes(tmp_path_factory.mktemp("kubernetes")) as started:
        yield started


@pytest.fixture
def live(server: Kubernetes) -> Iterator[Kubernetes]:
    """A live VirtualService, 95 to 5."""
    resource = next(yaml.safe_load_all(CANARY.read_text()))
    server.create(resource)
    yield server
    server.api.delete_namespaced_custom_object(*PLACE)


def read(server: Kubernetes) -> Any:
    return server.api.get_namespaced_custom_object(*PLACE)


def weights(server: Kubernetes) -> list[Any]:
    return [to.get("weight") for to in read(server)["spec"]["http"][-1]["route"]]


def test_the_live_weights_change_and_nothing_else(live: Kubernetes) -> None:
    before = read(live)
    plan = cluster.shift(live.access(), "digits", WANTED)
    after = read(live)
    assert [(one.old, one.new) for one in plan.weights] == [(95, 80), (5, 20)]
    expected = copy.deepcopy(before["spec"])
    for to, weight in zip(expected["http"][-1]["route"], (80, 20), strict=True):
        to["weight"] = weight
    assert after["spec"] == expected
    assert after["metadata"]["generation"] == before["metadata"]["generation"] + 1
    mine = [one for one in after["metadata"]["managedFields"] if one["manager"] == "headrace"]
    assert [one["operation"] for one in mine] == ["Update"]


def test_what_is_so_already_is_not_patched(live: Kubernetes) -> None:
    before = read(live)
    cluster.shift(live.access(), "digits", {"1": 95, "2": 5})
    assert read(live) == before


def test_a_weight_that_is_not_there_is_added(live: Kubernetes) -> None:
    live.api.patch_namespaced_custom_object(
        *PLACE, [{"op": "remove", "path": "/spec/http/2/route/1/weight"}], _content_type="application/json-patch+json"
    )
    assert weights(live) == [95, None]
    cluster.shift(live.access(), "digits", WANTED)
    assert weights(live) == [80, 20]


def test_who_changed_it_meanwhile_is_not_overwritten(live: Kubernetes, monkeypatch: pytest.MonkeyPatch) -> None:
    patch = cluster.json_patch

    def interrupted(plan: Plan, version: str) -> list[dict[str, Any]]:
        cluster_of_others = [{"op": "replace", "path": "/spec/http/2/route/0/weight", "value": 50}]
        live.api.patch_namespaced_custom_object(*PLACE, cluster_of_others, _content_type="application/json-patch+json")
        return patch(plan, version)

    monkeypatch.setattr(cluster, "json_patch", interrupted)
    with pytest.raises(ShiftError, match=r"^the VirtualService has been changed meanwhile: look at it, and run"):
        cluster.shift(live.access(), "digits", WANTED)
    assert weights(live) == [50, 5]


def test_without_the_version_it_would_be(live: Kubernetes, monkeypatch: pytest.MonkeyPatch) -> None:
    patch = cluster.json_patch

    def careless(plan: Plan, version: str) -> list[dict[str, Any]]:
        live.api.patch_namespaced_custom_object(
            *PLACE, [{"op": "replace", "path": "/spec/http/2/route/0/weight", "value": 50}],
            _content_type="application/json-patch+json",
        )  # fmt: skip
        return patch(plan, version)[1:]

    monkeypatch.setattr(cluster, "json_patch", careless)
    cluster.shift(live.access(), "digits", WANTED)
    assert weights(live) == [80, 20]


@pytest.mark.parametrize(
    ("user", "said"),
    [
        (STRANGER, 'User "stranger" cannot list .*: ask for list and patch of virtualservices.networking.istio.io in'),
        (READER, 'User "reader" cannot patch .*: ask for list and patch of .* in the namespace models$'),
        (UNKNOWN, "does not know you: log in again, or choose another --context$"),
    ],
)
def test_who_may_not_is_told(live: Kubernetes, user: str, said: str) -> None:
    with pytest.raises(ShiftError, match=said):
        cluster.shift(live.access(user), "digits", WANTED)
    assert weights(live) == [95, 5]


def test_what_is_not_there_is_told(live: Kubernetes, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(
        UnclearError, match=r"^in the namespace other, nothing routes for digits; .*; --namespace names"
    ):
        cluster.shift(live.access(namespace="other"), "digits", WANTED)
    with pytest.raises(ShiftError, match="there is no version 3 of digits"):
        cluster.shift(live.access(), "digits", {"3": 100})
    monkeypatch.setattr(cluster, "_KIND", ("networking.istio.io", "v9"))
    with pytest.raises(
        ShiftError, match=r"has no virtualservices.networking.istio.io/v1: it needs Istio 1.22 or later$"
    ):
        cluster.shift(live.access(), "digits", WANTED)


def test_what_the_server_refuses_is_told(live: Kubernetes, monkeypatch: pytest.MonkeyPatch) -> None:
    wrong = [{"op": "add", "path": "/spec/http/2/route/0/weight", "value": "many"}]
    monkeypatch.setattr(cluster, "json_patch", lambda plan, version: wrong)
    with pytest.raises(ShiftError, match=r"does not take the weights: .*weight in body must be of type integer"):
        cluster.shift(live.access(), "digits", WANTED)


def test_the_command(live: Kubernetes) -> None:
    options = ["--cluster", "--kubeconfig", str(live.kubeconfig), "--context", STRANGER, "-n", "models", "-o", "json"]
    command = [sys.executable, "-m", "headrace", "mesh", "shift", "digits", "1=80", "2=20", *options]
    refused = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (refused.returncode, refused.stdout) == (1, "")
    assert refused.stderr.startswith("headrace: ")
    command[command.index(STRANGER)] = "admin"
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    assert [(one["version"], one["old"], one["new"]) for one in json.loads(done.stdout)["weights"]] == [
        ("1", 95, 80),
        ("2", 5, 20),
    ]
    assert weights(live) == [80, 20]


@pytest.mark.parametrize("catalog", CATALOGS, ids=lambda path: path.parent.name)
def test_what_was_rendered_is_taken(server: Kubernetes, catalog: Path) -> None:
    files = [yaml.safe_load_all(file.read_text()) for file in sorted(catalog.iterdir())]
    resources = [resource for documents in files for resource in documents]
    assert len(resources) > 3
    for resource in resources:
        server.create(resource)
    for resource in resources:
        server.delete(resource)


def test_what_is_no_resource_is_not_taken(server: Kubernetes) -> None:
    resource = next(yaml.safe_load_all(CANARY.read_text()))
    resource["spec"]["http"][0]["retires"] = {}
    with pytest.raises(ApiException) as refused:
        server.create(resource)
    assert 'unknown field \\"spec.http[0].retires\\"' in str(refused.value.body)
