"""gRPC's bootstrap, as Istio's agent writes it (that gRPC takes it, the gateway's tests in mode xds show)."""

from __future__ import annotations

import json
from datetime import timedelta
from pathlib import Path

from mesh.proxyless.bootstrap import Certificates, bootstrap, node_id
from tests.mesh.envoy.istio_vectors import GATEWAY

FOLDER = Path("/etc/certs")
NODE = {
    "id": "sidecar~127.0.1.1~gateway.infer~infer.svc.cluster.local",
    "metadata": {
        "GENERATOR": "grpc",
        "NAMESPACE": "infer",
        "SERVICE_ACCOUNT": "gateway",
        "LABELS": {"app": "gateway"},
    },
}
SERVER = {"server_uri": "127.0.0.1:15010", "channel_creds": [{"type": "insecure"}], "server_features": ["xds_v3"]}


def test_without_certificates() -> None:
    assert bootstrap("127.0.0.1:15010", GATEWAY) == {"xds_servers": [SERVER], "node": NODE}
    assert node_id(GATEWAY) == NODE["id"]


def test_with_certificates() -> None:
    files = Certificates(FOLDER / "cert-chain.pem", FOLDER / "key.pem", FOLDER / "root-cert.pem")
    provider = {
        "plugin_name": "file_watcher",
        "config": {
            "certificate_file": "/etc/certs/cert-chain.pem",
            "private_key_file": "/etc/certs/key.pem",
            "ca_certificate_file": "/etc/certs/root-cert.pem",
            "refresh_interval": "900s",
        },
    }
    written = bootstrap("127.0.0.1:15010", GATEWAY, files)
    assert written == {"xds_servers": [SERVER], "node": NODE, "certificate_providers": {"default": provider}}


def test_how_often_certificates_are_read() -> None:
    files = Certificates(FOLDER / "a", FOLDER / "b", FOLDER / "c", timedelta(seconds=5))
    assert '"refresh_interval": "5s"' in json.dumps(bootstrap("a:1", GATEWAY, files))
