"""Traces in the mesh. Law: whether a call is traced is the gateway's to decide; sidecars follow, and begin none."""

from __future__ import annotations

from collections.abc import Mapping

from mesh.render.collector import PROVIDER
from mesh.render.resource import Fields, resource


def telemetry(namespace: str, name: str, labels: Mapping[str, str], *, traced: bool) -> Fields:
    """Istio's Telemetry for the workloads with these labels; `traced`: their sidecars have spans of their own."""
    provider: Fields = {"providers": [{"name": PROVIDER}], "enableIstioTags": False} if traced else {}
    tracing = provider | {"randomSamplingPercentage": 0}
    spec: Fields = {"selector": {"matchLabels": dict(labels)}, "tracing": [tracing]}
    return resource("Telemetry", namespace, name, spec)
