"""The resources of the mesh that is measured. Law: what costs something in production is on: mTLS, a rule, subsets."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

HOST: Final = "bench.models.svc.cluster.local"
VERSIONS: Final = (1, 2)

Resource = Mapping[str, Any]


def resources(workers: Mapping[str, str]) -> Sequence[Resource]:
    """The service, how it is reached, and who may; `workers` by name (`v1-a`), HOST:PORT."""
    service = {
        "hosts": [HOST],
        "location": "MESH_INTERNAL",
        "resolution": "STATIC",
        "ports": [{"number": 8001, "name": "grpc", "protocol": "GRPC"}],
        "workloadSelector": {"labels": {"app": "bench"}},
    }
    rule = {
        "host": HOST,
        "trafficPolicy": {"tls": {"mode": "ISTIO_MUTUAL"}, "loadBalancer": {"simple": "LEAST_REQUEST"}},
        "subsets": [{"name": f"v{version}", "labels": {"version": f"v{version}"}} for version in VERSIONS],
    }
    gateway = "cluster.local/ns/infer/sa/gateway"
    return [
        _resource("ServiceEntry", "bench", service),
        _resource("DestinationRule", "bench", rule),
        _resource("PeerAuthentication", "bench", {"mtls": {"mode": "STRICT"}}),
        _resource("AuthorizationPolicy", "bench", {"rules": [{"from": [{"source": {"principals": [gateway]}}]}]}),
        _resource("WorkloadEntry", "gateway", _workload("127.0.0.1:0", "gateway", {"app": "gateway"}), "infer"),
        *(
            _resource("WorkloadEntry", name, _workload(address, "bench", {"app": "bench", "version": name[:2]}))
            for name, address in workers.items()
        ),
    ]


def _workload(address: str, account: str, labels: Mapping[str, str]) -> Resource:
    host, _, port = address.rpartition(":")
    ports = {"grpc": int(port)} if port != "0" else {}
    return {"address": host, "ports": ports, "labels": labels, "serviceAccount": account}


def shares(version: int) -> Resource:
    """The VirtualService by which all calls go to one version."""
    routes = [
        {"destination": {"host": HOST, "subset": f"v{one}"}, "weight": 100 if one == version else 0} for one in VERSIONS
    ]
    return _resource("VirtualService", "bench", {"hosts": [HOST], "http": [{"route": routes}]})


def _resource(kind: str, name: str, spec: Mapping[str, Any], namespace: str = "models") -> Resource:
    group = "security" if "Auth" in kind else "networking"
    metadata = {"name": name, "namespace": namespace}
    return {"apiVersion": f"{group}.istio.io/v1", "kind": kind, "metadata": metadata, "spec": spec}
