"""What the gateway's sidecar knows. Law: the services of the catalog, and the control plane; nothing else of the mesh.

Calls to hosts outside the mesh pass as they come: the gateway asks issuers for keys, and sends spans to a collector.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from mesh.catalog import GatewayWorkload
from mesh.render.collector import Collector
from mesh.render.collector import resources as collected
from mesh.render.resource import Fields, resource
from mesh.render.services import GATEWAY, Service
from mesh.render.telemetry import telemetry

_CONTROL_PLANE: Final = "istio-system/*"


def resources(gateway: GatewayWorkload, services: Iterable[Service], spans: Collector | None) -> list[Fields]:
    """Sidecar and Telemetry of the gateway's workload; with a collector of spans, who registers it."""
    collector = [f"{spans.namespace}/{spans.host}"] if spans else []
    hosts = [*(f"{service.namespace}/{service.host}" for service in services), *collector, _CONTROL_PLANE]
    spec: Fields = {"workloadSelector": {"labels": dict(gateway.labels)}, "egress": [{"hosts": hosts}]}
    return [
        resource("Sidecar", gateway.namespace, GATEWAY, spec),
        telemetry(gateway.namespace, GATEWAY, gateway.labels, traced=spans is not None),
        *collected(spans),
    ]
