from __future__ import annotations

import pytest

from mesh.istio.document import RefusedError
from mesh.local.workloads import Places, as_written, placed
from tests.mesh.local.scene import ALL, CALLER, SERVICE, copy, numbered, world

PLAIN = copy("plain", "v1", 8109).replace("  serviceAccount: digits\n", "")


def test_a_sidecar_stands_in_its_process_stead() -> None:
    moved, workloads = placed(world(ALL), numbered())
    entries = {entry.name: entry.spec.address for entry in moved.workload_entries}
    assert {one.proxy.name: one.proxy.ip for one in workloads} == entries
    assert len(set(entries.values())) == 4
    assert all(address.startswith("127.0.1.") for address in entries.values())
    assert {one.process for one in workloads} == {"127.0.0.1"}


def test_who_a_workload_is() -> None:
    _, workloads = placed(world(ALL), numbered())
    (canary,) = (one for one in workloads if one.proxy.name == "canary")
    assert canary.key == ("models", "canary")
    assert canary.name == "canary.models"
    assert canary.proxy.labels == {"app": "digits", "version": "v2"}
    assert canary.proxy.spiffe_id("cluster.local") == "spiffe://cluster.local/ns/models/sa/digits"


def test_which_workloads_serve_anything() -> None:
    _, workloads = placed(world(ALL), numbered())
    assert {one.proxy.name for one in workloads if not one.serves} == {"gateway"}


def test_an_entry_without_an_account_stays_where_it_is_and_gets_no_sidecar() -> None:
    moved, workloads = placed(world(SERVICE, CALLER, PLAIN), numbered())
    assert [one.proxy.name for one in workloads] == ["gateway"]
    assert {entry.name: entry.spec.address for entry in moved.workload_entries}["plain"] == "127.0.0.1"


def test_with_another_account_it_is_another_workload() -> None:
    places = numbered()
    _, (first,) = placed(world(CALLER), places)
    _, (same,) = placed(world(CALLER.replace("app: gateway", "app: other")), places)
    _, (other,) = placed(world(CALLER.replace("serviceAccount: gateway", "serviceAccount: other")), places)
    assert first.proxy.ip == same.proxy.ip != other.proxy.ip
    assert first.key == other.key


def test_two_of_one_name_in_two_namespaces_are_two() -> None:
    _, workloads = placed(world(CALLER, CALLER.replace("namespace: infer", "namespace: batch")), numbered())
    assert [one.name for one in workloads] == ["gateway.batch", "gateway.infer"]
    assert len({one.proxy.ip for one in workloads}) == 2


def test_where_a_process_listens_can_be_said_elsewhere() -> None:
    places = Places(numbered().sidecar, lambda key, written: f"{key[1]} is not at {written}")
    _, workloads = placed(world(CALLER), places)
    assert [one.process for one in workloads] == ["gateway is not at 127.0.0.1"]


@pytest.mark.parametrize("address", ["::1", "localhost", "unix:///run/worker.sock"])
def test_a_process_has_an_ipv4_address(address: str) -> None:
    with pytest.raises(RefusedError) as refused:
        placed(world(CALLER, copy("one", "v1", 8101, address=f'"{address}"')), numbered())
    (line,) = refused.value.mistakes
    assert line.startswith("test.yaml:")
    assert f"WorkloadEntry models/one: spec.address: not implemented: {address}" in line


def test_without_an_account_any_address_will_do() -> None:
    _, workloads = placed(world(CALLER, PLAIN.replace("127.0.0.1", '"::1"')), numbered())
    assert len(workloads) == 1


def test_an_endpoint_with_an_identity_is_refused() -> None:
    endpoint = "  endpoints: [{address: 127.0.0.1}, {address: 127.0.0.2, serviceAccount: digits}]\n"
    with pytest.raises(RefusedError) as refused:
        placed(world(SERVICE.replace("  workloadSelector: {labels: {app: digits}}\n", endpoint)), numbered())
    assert "ServiceEntry models/digits: spec.endpoints[1].serviceAccount: not implemented" in str(refused.value)


def test_every_mistake_is_told() -> None:
    bad = [copy(name, "v1", 8101, address='"::1"') for name in ("one", "two")]
    with pytest.raises(RefusedError) as refused:
        placed(world(*bad), numbered())
    assert len(refused.value.mistakes) == 2


def test_as_written_is_as_written() -> None:
    assert as_written(("models", "one"), "10.0.0.1") == "10.0.0.1"
