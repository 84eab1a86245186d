"""What the gateway's sidecar knows, and who decides about traces."""

from __future__ import annotations

from typing import Any, cast

import pytest

from mesh.catalog import GatewayWorkload
from mesh.render import gateway
from mesh.render.collector import collector, mesh_config
from mesh.render.services import services
from mesh.render.telemetry import telemetry
from tests.mesh.render.models import GATEWAY, catalog, model


def test_the_services_of_the_catalog_and_the_control_plane() -> None:
    found = services(catalog(model(), model("a", "triton.vision:8001"), model("b", "triton.vision:8001")), GATEWAY)
    caller = GatewayWorkload(namespace="edge", labels={"app": "front"})
    sidecar, traces = (cast("dict[str, Any]", one) for one in gateway.resources(caller, found, None))
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
    assert traces == telemetry("edge", "gateway", {"app": "front"}, traced=False)


@pytest.mark.parametrize(
    ("otlp", "host", "namespace", "address", "resolution"),
    [
        ("http://127.0.0.1:4317", "otlp.headrace.internal", "edge", "127.0.0.1", "STATIC"),
        ("http://[::1]:4317", "otlp.headrace.internal", "edge", "::1", "STATIC"),
        ("http://localhost:4317", "otlp.headrace.internal", "edge", "127.0.0.1", "STATIC"),
        ("http://otel.corp.example:4317", "otel.corp.example", "edge", "otel.corp.example", "DNS"),
        ("http://otel.observability.svc:4317", "otel.observability.svc.cluster.local", "observability", None, None),
    ],
)
def test_where_spans_go_is_known_to_the_gateways_sidecar(
    otlp: str, host: str, namespace: str, address: str | None, resolution: str | None
) -> None:
    spans = collector(otlp, "edge")
    caller = GatewayWorkload(namespace="edge", labels={"app": "front"})
    sidecar, traces, *entries = (cast("dict[str, Any]", one) for one in gateway.resources(caller, [], spans))
    assert sidecar["spec"]["egress"] == [{"hosts": [f"{namespace}/{host}", "istio-system/*"]}]
    assert traces["spec"]["tracing"] == [
        {"providers": [{"name": "headrace"}], "enableIstioTags": False, "randomSamplingPercentage": 0}
    ]
    told = [
        (one["spec"]["hosts"], one["spec"]["endpoints"], one["spec"]["resolution"], one["spec"]["ports"][0]["number"])
        for one in entries
    ]
    assert told == ([([host], [{"address": address}], resolution, 4317)] if address else [])
    assert mesh_config(spans, "corp")["extensionProviders"] == [
        {"name": "headrace", "opentelemetry": {"service": f"{namespace}/{host}", "port": 4317}}
    ]


@pytest.mark.parametrize("otlp", [None, "https://otel.corp.example:4317"])
def test_without_a_collector_that_sidecars_can_speak_to_they_have_no_spans(otlp: str | None) -> None:
    assert collector(otlp, "edge") is None
    assert mesh_config(None, "corp") == {"trustDomain": "corp"}


def test_sidecars_begin_no_traces() -> None:
    spec = {"selector": {"matchLabels": {"app": "a"}}, "tracing": [{"randomSamplingPercentage": 0}]}
    assert telemetry("models", "a", {"app": "a"}, traced=False)["spec"] == spec
