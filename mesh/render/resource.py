"""A resource as data. Law: keys stand in the order in which people write them, and what is not set is not there."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Final

from protos.units import written

Fields = dict[str, object]
"""A message of Istio's as its YAML holds it: keys in camelCase."""

_API_VERSIONS: Final[Mapping[str, str]] = {
    "VirtualService": "networking.istio.io/v1",
    "DestinationRule": "networking.istio.io/v1",
    "ServiceEntry": "networking.istio.io/v1",
    "WorkloadEntry": "networking.istio.io/v1",
    "Sidecar": "networking.istio.io/v1",
    "PeerAuthentication": "security.istio.io/v1",
    "AuthorizationPolicy": "security.istio.io/v1",
    "RequestAuthentication": "security.istio.io/v1",
    "Telemetry": "telemetry.istio.io/v1",
    "Gateway": "networking.istio.io/v1",
    "EnvoyFilter": "networking.istio.io/v1alpha3",
}
_MILLISECONDS: Final[Mapping[str, float]] = {"ms": 1, "s": 1000, "m": 60_000}


def resource(kind: str, namespace: str, name: str, spec: Fields) -> Fields:
    """The whole resource."""
    metadata = {"name": name, "namespace": namespace}
    return {"apiVersion": _API_VERSIONS[kind], "kind": kind, "metadata": metadata, "spec": spec}


def given(**fields: object) -> Fields:
    """A message of the fields that are not None."""
    return {name: value for name, value in fields.items() if value is not None}


def duration(seconds: float) -> str:
    """A duration in the whole milliseconds that Istio takes, rounded up: `500ms`, `5s`, `2m`."""
    return written(math.ceil(round(seconds * 1000, 6)), _MILLISECONDS)


def percent(share: float) -> int:
    """0.2 -> 20."""
    return round(share * 100)
