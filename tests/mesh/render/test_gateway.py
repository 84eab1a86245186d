"""What the gateway's sidecar knows, and who decides about traces."""

from __future__ import annotations

from typing import Any, cast

from mesh.catalog import GatewayWorkload
from mesh.render import gateway
from mesh.render.services import services
from mesh.render.telemetry import telemetry
from tests.mesh.render.models import GATEWAY, catalog, model


def test_the_services_of_the_catalog_and_the_control_plane() -> None:
    found = services(catalog(model(), model("a", "triton.vision:8001"), model("b", "triton.vision:8001")), GATEWAY)
    caller = GatewayWorkload(namespace="edge", labels={"app": "front"})
    sidecar, traces = (cast("dict[str, Any]", one) for one in gateway.resources(caller, found))
    assert sidecar["metadata"] == {"name": "gateway", "namespace": "edge"}
    assert sidecar["spec"] == {
        "workloadSelector": {"labels": {"app": "front"}},
        "egress": [
            {
                "hosts": [
                    "models/digits.models.svc.cluster.local",
                    "vision/triton.vision.svc.cluster.local",
                    "istio-system/*",
                ]
            }
        ],
    }
    assert traces == telemetry("edge", "gateway", {"app": "front"})


def test_sidecars_begin_no_traces() -> None:
    spec = {"selector": {"matchLabels": {"app": "a"}}, "tracing": [{"randomSamplingPercentage": 0}]}
    assert telemetry("models", "a", {"app": "a"})["spec"] == spec
