"""Whether a plain Envoy does what Istio's would: every case of Istio's own control plane, given to one that runs."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest

from mesh.envoy.clusters import clusters
from mesh.envoy.endpoints import endpoints
from mesh.envoy.inbound import workload_listeners
from mesh.envoy.proto import Json
from mesh.istio.load import load_case
from mesh.istio.world import World
from mesh.local.config import Config, config, reconnected
from mesh.local.plan import Plan
from mesh.local.workloads import Places, Workload, placed
from tests.envoy import needs_envoy
from tests.mesh.envoy.istio_vectors import CASES, golden
from tests.mesh.local.scene import (
    ALL,
    CALLER,
    SERVICE,
    copy,
    fleet,
    free_places,
    in_force,
    numbered,
    planned,
    world,
)

GATEWAY, WORKER = ("infer", "gateway"), ("models", "digits-v1-a")
GOLDEN: Final = {GATEWAY: "gateway", WORKER: "worker"}
OUTBOUND: Final = {"filters", "type", "eds_cluster_config", "load_assignment", "upstream_bind_config"}
INBOUND: Final = {"type", "load_assignment", "lb_policy", "cleanup_interval", "common_lb_config"}
CAPTURED: Final = {"BlackHoleCluster", "PassthroughCluster", "InboundPassthroughCluster"}
ISTIOS_OWN: Final = (  # what a plain Envoy without a control plane has not
    '"ads"', "'ads'", "sds-grpc", "api_config_source", "ORIGINAL_DST", "original_dst", "CLUSTER_PROVIDED",
    "metadata_exchange", "istio.alpn", "istio.stats", "istio_authn", "peer_metadata",
)  # fmt: skip


def moved(case: Path, places: Places) -> tuple[World, dict[tuple[str, str], Workload]]:
    """A case's world with a process for its gateway, in its place, and its workloads."""
    found, _ = load_case(case)
    found = World(found.mesh, (*found.resources, *world(CALLER).resources))
    there, workloads = placed(found, places)
    return there, {workload.key: workload for workload in workloads}


def configured(case: Path, key: tuple[str, str], places: Places) -> tuple[Workload, Config]:
    there, workloads = moved(case, places)
    return workloads[key], config(there, workloads[key], [(workloads[key].proxy.ip, 15001)])


def every(part: object) -> Iterator[str]:
    """Every key and every text in a part of a configuration."""
    if isinstance(part, dict):
        yield from (text for key, value in part.items() for text in (repr(key), *every(value)))
    elif isinstance(part, list | tuple):
        yield from (text for value in part for text in every(value))
    elif isinstance(part, str):
        yield part


@needs_envoy
@pytest.mark.parametrize("key", [GATEWAY, WORKER], ids=lambda key: key[1])
async def test_an_envoy_takes_every_case_one_after_the_other(key: tuple[str, str], tmp_path: Path) -> None:
    places = free_places()
    async with fleet(tmp_path) as sidecars:
        for case in CASES:
            workload, wanted = configured(case, key, places)
            try:
                await sidecars.carry_out(Plan("cluster.local", {key: workload}, {key: wanted}, None))
            except Exception as error:
                raise AssertionError(f"{case.name}: {error}") from error
            there = await in_force(workload.proxy.ip)
            names = {str(one["name"]) for one in wanted.clusters}
            assert there.keys() - {"routes outbound"} == names | {f"listener {one['name']}" for one in wanted.listeners}
            assert there["routes outbound"]["virtual_hosts"] == wanted.routes["virtual_hosts"], case.name


@pytest.mark.parametrize("key", [GATEWAY, WORKER], ids=lambda key: key[1])
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_all_else_is_as_in_a_cluster(case: Path, key: tuple[str, str]) -> None:
    there, workloads = moved(case, numbered())
    proxy = workloads[key].proxy
    ours = config(there, workloads[key], [(proxy.ip, 15001)])
    istios = {str(one["name"]): one for one in clusters(there, proxy) if one["name"] not in CAPTURED}
    copies = {one["cluster_name"]: one for one in endpoints(there, proxy)}
    mine = {str(one["name"]): one for one in ours.clusters}
    assert mine.keys() == istios.keys()
    for name, cluster in istios.items():
        differs = OUTBOUND if name.startswith("outbound|") else INBOUND
        assert without(mine[name], differs) == without(cluster, differs)
        assert name.startswith("inbound|") or mine[name]["load_assignment"] == copies[name]
    assert ours.listeners[1:] == (*workload_listeners(there, proxy),)


def without(cluster: Json, fields: set[str]) -> Json:
    return {field: value for field, value in cluster.items() if field not in fields}


@pytest.mark.parametrize("key", [GATEWAY, WORKER], ids=lambda key: key[1])
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_nothing_in_it_is_istios_own(case: Path, key: tuple[str, str]) -> None:
    _, ours = configured(case, key, numbered())
    written = [*every(ours.clusters), *every(ours.routes), *every(ours.listeners)]
    sources = {"'ads'", "sds-grpc", "'api_config_source'"}  # these become files: see test_files.py
    assert not [text for text in written for own in ISTIOS_OWN if own in text and text not in sources]


def test_and_istios_output_has_all_of_that() -> None:
    """Or the test above could not fail."""
    written = [text for name in GOLDEN.values() for text in every(golden(CASES[0], name))]
    for own in ("sds-grpc", "ORIGINAL_DST", "CLUSTER_PROVIDED"):
        assert [text for text in written if own in text]


def found(*documents: str, of: tuple[str, str] = GATEWAY) -> dict[str, Any]:
    return {str(one["name"]): one for one in planned(*documents).configs[of].clusters}


def test_a_process_is_called_where_it_listens_and_its_sidecar_where_it_stands() -> None:
    plan = planned(SERVICE, CALLER, copy("one", "v1", 8101, address="127.0.0.3"))
    (to,) = (one for one in plan.configs["models", "one"].clusters if str(one["name"]).startswith("inbound|"))
    assert to["type"] == "STATIC"
    assert "'address': '127.0.0.3', 'port_value': 8101" in str(to["load_assignment"])
    sidecar = plan.workloads["models", "one"].proxy.ip
    outbound = next(one for one in plan.configs[GATEWAY].clusters if str(one["name"]).startswith("outbound|"))
    assert f"'address': '{sidecar}', 'port_value': 8101" in str(outbound["load_assignment"])


def test_peers_on_the_loopback_see_the_sidecars_own_address() -> None:
    own = planned(ALL).workloads[GATEWAY].proxy.ip
    for name, cluster in found(ALL).items():
        if name.startswith("outbound|"):
            assert cluster["upstream_bind_config"]["source_address"]["address"] == own


@pytest.mark.parametrize("address", ["192.0.2.9", "127.0.0.9"])
def test_beyond_the_loopback_no_one_could_answer_such_an_address(address: str) -> None:
    elsewhere = copy("far", "v1", 8101, address=address).replace("  serviceAccount: digits\n", "")
    cluster = found(SERVICE, CALLER, elsewhere)["outbound|8001||digits.models.svc.cluster.local"]
    assert ("upstream_bind_config" in cluster) is (address == "127.0.0.9")


@pytest.mark.parametrize("address", ["192.0.2.9", "127.0.0.9"])
def test_nor_does_the_sidecar_call_its_process_from_istios_address(address: str) -> None:
    own = found(SERVICE, CALLER, copy("far", "v1", 8101, address=address), of=("models", "far"))["inbound|8101||"]
    assert ("upstream_bind_config" in own) is (address == "127.0.0.9")


def test_copies_may_have_different_ports() -> None:
    assignment = str(found(ALL)["outbound|8001||digits.models.svc.cluster.local"]["load_assignment"])
    assert all(f"'port_value': {port}" in assignment for port in (8101, 8102, 8103))


def test_a_name_server_that_is_silent_does_not_hold_a_change_up() -> None:
    external = SERVICE.replace("STATIC", "DNS").replace("  workloadSelector: {labels: {app: digits}}\n", "")
    (cluster,) = (one for name, one in found(external, CALLER).items() if name.startswith("outbound|"))
    assert cluster["type"] == "STRICT_DNS"
    resolver = cluster["typed_dns_resolver_config"]["typed_config"]
    assert resolver["query_timeout_seconds"] * resolver["query_tries"] < 5


def test_callers_connect_anew_to_those_addresses_alone() -> None:
    plan = planned(ALL)
    one, canary = (plan.workloads["models", name].proxy.ip for name in ("one", "canary"))
    before = plan.configs[GATEWAY]
    after = reconnected(before, {canary: 1})
    changed = {str(new["name"]) for old, new in zip(before.clusters, after.clusters, strict=True) if old != new}
    named = "outbound|8001|{}|digits.models.svc.cluster.local"
    assert changed == {named.format("v2"), named.format("")}
    assert reconnected(before, {}) == before
    assert reconnected(after, {canary: 1}) == after
    assert reconnected(after, {canary: 2}) != after
    assert len({str(reconnected(before, {one: 1}).clusters), str(after.clusters), str(before.clusters)}) == 3
