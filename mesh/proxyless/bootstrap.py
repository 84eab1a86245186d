"""gRPC's bootstrap: where its client finds the control plane, who it says it is, where its certificates are.

Law: what Istio's agent writes, but for listeners of gRPC servers. Sources: Istio's pkg/istio-agent/grpcxds, gRFC A27
(https://github.com/grpc/proposal/blob/master/A27-xds-global-load-balancing.md#xdsclient-and-bootstrap-file) and, for
certificates, A29.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Final

from mesh.envoy.proto import Json
from mesh.istio.proxies import Proxy

PROVIDER: Final = "default"
"""The certificate provider that clusters name."""


@dataclass(frozen=True)
class Certificates:
    """PEM files: the workload's own certificate and key, and the roots by which peers are verified.

    They are replaced by rename, and read every `refresh`: whole seconds, at least one, as gRPC has it.
    """

    certificate: Path
    key: Path
    roots: Path
    refresh: timedelta = timedelta(minutes=15)


def node_id(proxy: Proxy) -> str:
    """The id by which Istio tells proxies apart: `sidecar~IP~NAME.NAMESPACE~NAMESPACE.svc.cluster.local`."""
    return f"sidecar~{proxy.ip}~{proxy.name}.{proxy.namespace}~{proxy.namespace}.svc.cluster.local"


def bootstrap(server: str, proxy: Proxy, certificates: Certificates | None = None) -> Json:
    """The bootstrap, as JSON, of a workload that asks an ADS server at `server` (HOST:PORT), in plain text.

    Without certificates it can call in plain text alone.
    """
    metadata: Json = {
        "GENERATOR": "grpc",
        "NAMESPACE": proxy.namespace,
        "SERVICE_ACCOUNT": proxy.service_account,
        "LABELS": dict(proxy.labels),
    }
    xds_server: Json = {
        "server_uri": server,
        "channel_creds": [{"type": "insecure"}],
        "server_features": ["xds_v3"],
    }
    providers: Json = {"certificate_providers": {PROVIDER: _watcher(certificates)}} if certificates else {}
    return {"xds_servers": [xds_server], "node": {"id": node_id(proxy), "metadata": metadata}, **providers}


def _watcher(certificates: Certificates) -> Json:
    config: Json = {
        "certificate_file": str(certificates.certificate),
        "private_key_file": str(certificates.key),
        "ca_certificate_file": str(certificates.roots),
        "refresh_interval": f"{certificates.refresh.total_seconds():.0f}s",
    }
    return {"plugin_name": "file_watcher", "config": config}
