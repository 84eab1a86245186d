"""Who calls, and where a model is."""

from __future__ import annotations

import pytest

from mesh.explain.places import authority, call, caller, workloads
from mesh.of_model import UnclearError
from tests.mesh.envoy.istio_vectors import GATEWAY, WORKER, world_alone, world_of

HOST = "digits.models.svc.cluster.local"
CALLS = """
apiVersion: networking.istio.io/v1
kind: WorkloadEntry
metadata: {name: gateway, namespace: infer}
spec: {address: 127.0.0.1, labels: {app: gateway}, serviceAccount: door}
"""


def routing(*hosts: str, name: str = "routing", match: str = "{}") -> str:
    return f"""
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {{name: {name}, namespace: models}}
spec:
  hosts: [{", ".join(hosts)}]
  http: [{{match: [{match}], route: [{{destination: {{host: digits}}}}]}}]
"""


def test_who_serves_nothing_calls() -> None:
    world = world_of(CALLS)
    who = caller(world, workloads(world))
    assert (who.name, who.namespace, who.service_account, who.labels) == (
        "gateway",
        "infer",
        "door",
        {"app": "gateway"},
    )
    assert caller(world, [WORKER, GATEWAY]) is GATEWAY


def test_who_calls_may_be_said() -> None:
    world = world_of(CALLS)
    assert caller(world, workloads(world), "models/triton-a").labels["pool"] == "a100"
    with pytest.raises(UnclearError, match=r"there is no workload models/x; there are .*infer/gateway"):
        caller(world, workloads(world), "models/x")


def test_who_calls_is_not_guessed() -> None:
    both = world_of(f"{CALLS}---{CALLS.replace('name: gateway', 'name: other')}")
    with pytest.raises(UnclearError, match=r"say with --from.*: infer/gateway, infer/other$"):
        caller(both, workloads(both))
    with pytest.raises(UnclearError, match="none is known"):
        caller(both, [])


def test_routes_that_name_the_model_lead_to_its_host() -> None:
    world = world_of(routing(HOST, match="{headers: {X-Model-Name: {exact: seq}}}"))
    assert authority(world, GATEWAY, "seq") == f"{HOST}:8001"


def test_a_virtual_service_or_a_host_of_the_models_name_is_its_own() -> None:
    assert authority(world_of(routing(HOST, name="seq")), GATEWAY, "seq") == f"{HOST}:8001"
    assert authority(world_of(routing(HOST)), GATEWAY, "digits") == f"{HOST}:8001"
    assert authority(world_of(CALLS), GATEWAY, "digits") == f"{HOST}:8001"


def test_a_host_may_be_said() -> None:
    world = world_of(CALLS)
    assert authority(world, GATEWAY, "seq", HOST) == f"{HOST}:8001"
    assert authority(world, GATEWAY, "seq", "nowhere:1") == "nowhere:1"
    with pytest.raises(UnclearError, match=r"no service seen from there is nowhere; there are digits\."):
        authority(world, GATEWAY, "seq", "nowhere")


def test_what_could_be_several_hosts_or_ports_is_asked_for() -> None:
    both = world_of(routing(HOST, "triton", "nowhere.example", name="seq"))
    with pytest.raises(UnclearError, match=r"models/seq has the hosts digits.*, triton.*: say with --host"):
        authority(both, GATEWAY, "seq")
    with pytest.raises(UnclearError, match="models/seq has no host that a ServiceEntry registers"):
        authority(world_of(routing("nowhere.example", name="seq")), GATEWAY, "seq")
    ports = "[{number: 1, name: a, protocol: GRPC}, {number: 2, name: b, protocol: HTTP2}]"
    service = f"""
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {{name: seq, namespace: models}}
spec: {{hosts: [seq.models], location: MESH_INTERNAL, resolution: STATIC, ports: {ports}}}
"""
    with pytest.raises(UnclearError, match=r"seq.models has the ports 1, 2: say it with --host seq.models:PORT"):
        authority(world_alone(service), GATEWAY, "seq")


def test_the_call_is_the_gateways() -> None:
    made = call("digits", "h:1", "ModelInfer", "2", {"x-tier": ("gold",)})
    assert {name: value for name, (value,) in made.items()} == {
        ":method": "POST",
        ":scheme": "http",
        ":path": "/inference.GRPCInferenceService/ModelInfer",
        ":authority": "h:1",
        "content-type": "application/grpc",
        "te": "trailers",
        "x-model-name": "digits",
        "x-model-version": "2",
        "x-tier": "gold",
    }
    other = call("digits", "h:1", "grpc.health.v1.Health/Check", None, {})
    assert other[":path"] == ("/grpc.health.v1.Health/Check",)
    assert "x-model-version" not in other
