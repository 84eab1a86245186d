"""Traces in the mesh. Law: whether a call is traced is the gateway's to decide; sidecars follow, and begin none."""

from __future__ import annotations

from collections.abc import Mapping

from mesh.render.resource import Fields, resource


def telemetry(namespace: str, name: str, labels: Mapping[str, str]) -> Fields:
    """Istio's Telemetry for the workloads with these labels."""
    spec: Fields = {"selector": {"matchLabels": dict(labels)}, "tracing": [{"randomSamplingPercentage": 0}]}
    return resource("Telemetry", namespace, name, spec)
