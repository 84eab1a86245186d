"""Where the spans of sidecars go. Law: to where the gateway's own go, by a provider that the mesh's settings name.

Istio knows providers from its MeshConfig alone, which is the mesh's owner's: resources name one, and where the mesh has
none of that name nothing is traced. Who has it from us gets it by `mesh_config`.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final
from urllib.parse import urlsplit

from mesh.istio.names import is_ip
from mesh.render.resource import Fields, resource

PROVIDER: Final = "headrace"
"""The provider's name in MeshConfig."""
_OURS: Final = "otlp.headrace.internal"
"""The host of a collector that has an address and no name."""
_NAME: Final = "otlp"
_PORT: Final = "grpc-otlp"
_OF_CLUSTER: Final = re.compile(r"([^.]+)\.([^.]+)\.svc(\.cluster\.local)?")


@dataclass(frozen=True)
class Collector:
    """A host in the mesh, its namespace there and its port; `address`: where it is, if no service of a cluster."""

    host: str
    namespace: str
    port: int
    address: str | None


def collector(otlp: str | None, namespace: str) -> Collector | None:
    """Of the gateway's endpoint, `http://HOST:PORT`; what is not the cluster's is registered in the namespace.

    None: there is none, or it takes TLS, which sidecars are not told how to speak.
    """
    parts = urlsplit(otlp or "")
    if parts.scheme != "http" or parts.hostname is None:
        return None
    host, port = parts.hostname, parts.port or 4317
    if match := _OF_CLUSTER.fullmatch(host):
        return Collector(f"{match[1]}.{match[2]}.svc.cluster.local", match[2], port, None)
    host = "127.0.0.1" if host == "localhost" else host
    return Collector(_OURS if is_ip(host) else host, namespace, port, host)


def resources(found: Collector | None) -> Sequence[Fields]:
    """The ServiceEntry of one that is not the cluster's."""
    if found is None or found.address is None:
        return []
    spec: Fields = {
        "hosts": [found.host],
        "location": "MESH_EXTERNAL",
        "resolution": "STATIC" if is_ip(found.address) else "DNS",
        "ports": [{"number": found.port, "name": _PORT, "protocol": "GRPC"}],
        "endpoints": [{"address": found.address}],
    }
    return [resource("ServiceEntry", found.namespace, _NAME, spec)]


def mesh_config(found: Collector | None, trust_domain: str) -> Fields:
    """What Istio's MeshConfig must say."""
    config: Fields = {"trustDomain": trust_domain}
    if found is not None:
        service: Fields = {"service": f"{found.namespace}/{found.host}", "port": found.port}
        config["extensionProviders"] = [{"name": PROVIDER, "opentelemetry": service}]
    return config
