from __future__ import annotations

import pytest

from mesh.istio.document import RefusedError
from mesh.local.addresses import OUTBOUND_PORT
from mesh.local.failure import MeshError
from mesh.local.plan import Gateway, Plan
from tests.mesh.local.scene import ALL, CALLER, COPIES, DIGITS, FOR_GRPC, SERVICE, planned

XDS = ("127.0.0.1", 15010)
SECOND = CALLER.replace("name: gateway", "name: batch")


def calls_at(plan: Plan, key: tuple[str, str]) -> list[tuple[object, object]]:
    """Where a process can call by its sidecar."""
    (outbound,) = (one for one in plan.configs[key].listeners if one["name"] == "outbound")
    more = outbound["additional_addresses"]
    assert isinstance(more, list)
    found = [outbound["address"], *(each["address"] for each in more)]
    return [(one["socket_address"]["address"], one["socket_address"]["port_value"]) for one in found]


def test_every_workload_has_a_configuration() -> None:
    plan = planned(ALL)
    assert plan.workloads.keys() == plan.configs.keys()
    assert {workload.name for workload in plan.workloads.values()} == {
        "canary.models", "gateway.infer", "one.models", "two.models",
    }  # fmt: skip
    assert plan.trust_domain == "cluster.local"


def test_the_gateway_is_the_one_that_serves_nothing_and_calls_where_it_is_said() -> None:
    plan = planned(ALL, gateway=Gateway(("127.0.0.1", 7001)))
    assert plan.gateway == ("infer", "gateway")
    for key, workload in plan.workloads.items():
        own = (workload.proxy.ip, OUTBOUND_PORT)
        assert calls_at(plan, key) == ([own, ("127.0.0.1", 7001)] if key == plan.gateway else [own])


def test_it_can_be_named() -> None:
    plan = planned(ALL, SECOND, gateway=Gateway(("127.0.0.1", 7001), ("infer", "batch")))
    assert plan.gateway == ("infer", "batch")
    assert ("127.0.0.1", 7001) in calls_at(plan, ("infer", "batch"))
    assert ("127.0.0.1", 7001) not in calls_at(plan, ("infer", "gateway"))


def test_one_that_serves_can_be_named() -> None:
    assert planned(FOR_GRPC, gateway=Gateway(None, ("models", "one"))).gateway == ("models", "one")


def test_one_that_is_not_there_cannot() -> None:
    with pytest.raises(MeshError, match="there is no workload infer/nobody"):
        planned(FOR_GRPC, gateway=Gateway(None, ("infer", "nobody")))


def test_two_that_serve_nothing_have_to_be_told_apart() -> None:
    words = "which workload is the gateway\\? infer/batch, infer/gateway serve nothing; name one with --gateway"
    with pytest.raises(MeshError, match=words):
        planned(ALL, SECOND, gateway=Gateway(("127.0.0.1", 7001)))
    assert planned(ALL, SECOND).gateway is None


def test_there_need_be_no_gateway() -> None:
    plan = planned(SERVICE, *COPIES, gateway=Gateway(("127.0.0.1", 7001)))
    assert plan.gateway is None
    assert all(("127.0.0.1", 7001) not in calls_at(plan, key) for key in plan.workloads)


def test_without_a_workload_there_is_no_mesh() -> None:
    with pytest.raises(
        MeshError, match="there is no workload: a process of the mesh is a WorkloadEntry with a service"
    ):
        planned(SERVICE)


def test_a_gateway_without_a_sidecar_is_told_where_the_others_are() -> None:
    plan = planned(FOR_GRPC, gateway=Gateway(xds=XDS))
    assert plan.gateway == ("infer", "gateway")
    assert plan.gateway not in plan.workloads
    assert plan.gateway not in plan.configs
    assert plan.proxyless is not None
    assert plan.proxyless.proxy.ip == "127.0.0.1"  # as written, whenever the mesh is started
    assert {str(one["name"]) for one in plan.proxyless.told["listeners"]} == {DIGITS}
    sidecars = {workload.proxy.ip for workload in plan.workloads.values()}
    assert all(address in str(plan.proxyless.told["endpoints"]) for address in sidecars)
    assert planned(ALL).proxyless is None


def test_what_grpc_cannot_do_is_refused_where_the_gateway_has_no_sidecar() -> None:
    with pytest.raises(RefusedError, match="timeout: "):
        planned(ALL, gateway=Gateway(xds=XDS))
    planned(ALL)


def test_without_a_sidecar_nobody_can_be_called() -> None:
    with pytest.raises(MeshError, match="models/one serves calls, and without a sidecar it can only make them"):
        planned(FOR_GRPC, gateway=Gateway(None, ("models", "one"), XDS))
    with pytest.raises(MeshError, match="there is no gateway that xDS could tell anything: every workload serves"):
        planned(SERVICE, *COPIES, gateway=Gateway(xds=XDS))
    with pytest.raises(MeshError, match="which workload is the gateway"):
        planned(FOR_GRPC, SECOND, gateway=Gateway(xds=XDS))
