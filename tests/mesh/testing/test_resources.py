from __future__ import annotations

from pathlib import Path

import pytest

from mesh.istio.document import read_documents
from mesh.istio.mesh_config import MeshConfig
from mesh.istio.resource import read_resources
from mesh.istio.service_entry import ServiceEntry
from mesh.istio.workload_entry import WorkloadEntry
from mesh.istio.world import World
from mesh.testing.resources import Files, copied, without, written

TEXT = """# what all of this is for
apiVersion: security.istio.io/v1
kind: PeerAuthentication
metadata: {name: default, namespace: models}
spec: {mtls: {mode: STRICT}}
--- # and the next
# a word on it
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: default}
spec: {}
---
---
apiVersion: security.istio.io/v1
kind: PeerAuthentication
metadata: {name: default, namespace: infer}
spec: {mtls: {mode: y}}
"""


def test_files_are_copied_and_theirs_are_left_alone(tmp_path: Path) -> None:
    source, to = tmp_path / "istio", tmp_path / "copy"
    source.mkdir()
    for name in ("a.yaml", "b.yml", "README.md", ".hidden.yaml"):
        (source / name).write_text(name)
    assert copied(source, to) == Files(source, to)
    assert sorted(path.name for path in to.iterdir()) == ["a.yaml", "b.yml"]
    # One file is one that was chosen.
    assert copied(source / "README.md", tmp_path / "one") == Files(source, tmp_path / "one")
    assert (tmp_path / "one" / "README.md").read_text() == "README.md"
    (to / "a.yaml").write_text("changed")
    assert (source / "a.yaml").read_text() == "a.yaml"


def test_services_are_written_as_istio_writes_what_is_no_pod() -> None:
    services = {"digits.models.svc.cluster.local:8001": [{"version": "v1"}, {"version": "v2"}], "lone:80": [{}]}
    text = written(services, "infer/gateway", {"app": "gateway"})
    world = World(MeshConfig(), read_resources(read_documents(text, "added.yaml")))
    entries = {(one.namespace, one.name): one.spec for one in world.of(WorkloadEntry)}
    assert {key: one.service_account for key, one in entries.items()} == {
        ("models", "digits-1"): "digits",
        ("models", "digits-2"): "digits",
        ("default", "lone-1"): "lone",
        ("infer", "gateway"): "gateway",
    }
    assert entries["models", "digits-2"].labels["version"] == "v2"
    assert entries["infer", "gateway"].labels == {"app": "gateway"}
    for one in world.of(ServiceEntry):
        selector = one.spec.workload_selector
        assert selector is not None
        selected = world.workloads(one.namespace, selector.labels)
        assert [each.name for each in selected] == {"digits": ["digits-1", "digits-2"], "lone": ["lone-1"]}[one.name]


def test_a_caller_has_a_namespace() -> None:
    with pytest.raises(ValueError, match="caller: 'gateway' is not NAMESPACE/SERVICE_ACCOUNT"):
        written({"digits:8001": [{}]}, "gateway", {})


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"there is no .*nowhere"):
        copied(tmp_path / "nowhere", tmp_path / "to")


def test_a_host_may_have_several_ports() -> None:
    copies = [{"version": "v1"}]
    text = written({"digits:8001": copies, "digits:8002": copies}, "infer/gateway", {})
    world = World(MeshConfig(), read_resources(read_documents(text, "added.yaml")))
    (service,) = world.of(ServiceEntry)
    assert [port.number for port in service.spec.ports] == [8001, 8002]
    assert len(world.of(WorkloadEntry)) == 2
    with pytest.raises(ValueError, match="the ports of digits have the same copies"):
        written({"digits:8001": copies, "digits:8002": []}, "infer/gateway", {})


@pytest.mark.parametrize("service", ["digits.models", "digits:grpc", ":8001"])
def test_a_service_has_a_port(service: str) -> None:
    with pytest.raises(ValueError, match="is not HOST:PORT"):
        written({service: [{}]}, "infer/gateway", {})


def test_one_resource_is_taken_away_and_the_rest_is_as_it_was() -> None:
    first, second, rest = TEXT.split("---", 2)
    second = second.removeprefix(" # and the next\n")
    assert without(TEXT, "PeerAuthentication", "default", "models") == second + "---" + rest
    assert without(TEXT, "AuthorizationPolicy", "default", "default") == first + "---" + rest
    left = without(TEXT, "PeerAuthentication", "default", None)
    assert left is not None
    assert [one.data["kind"] for one in read_documents(left, "x")] == ["AuthorizationPolicy"]


@pytest.mark.parametrize(
    ("kind", "name", "namespace"),
    [("PeerAuthentication", "other", None), ("Sidecar", "default", None), ("AuthorizationPolicy", "default", "models")],
)
def test_one_that_is_not_there(kind: str, name: str, namespace: str | None) -> None:
    assert without(TEXT, kind, name, namespace) is None
