"""Worlds and goldens for the tests of listeners."""

from collections.abc import Iterator
from typing import Any

import yaml

from mesh.istio.document import read_documents
from mesh.istio.mesh_config import MeshConfig
from mesh.istio.resource import read_resources
from mesh.istio.world import World

SERVICE = """
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: digits, namespace: models}
spec:
  hosts: [digits.models.svc.cluster.local]
  location: MESH_INTERNAL
  resolution: STATIC
  ports: [{number: 8001, name: grpc, protocol: GRPC}]
  workloadSelector: {labels: {app: digits}}
---
apiVersion: networking.istio.io/v1
kind: WorkloadEntry
metadata: {name: digits-a, namespace: models}
spec: {address: 127.0.1.11, ports: {grpc: 8001}, labels: {app: digits, version: v1}, serviceAccount: digits}
"""


def world(*texts: str, **mesh: Any) -> World:
    """The world of some YAML."""
    return World(MeshConfig(**mesh), read_resources(read_documents("\n---\n".join(texts), "a.yaml")))


def resource(kind: str, name: str, namespace: str = "models", **spec: Any) -> str:
    """One resource as YAML."""
    group = "security" if "Auth" in kind else "networking"
    metadata = {"name": name, "namespace": namespace}
    return yaml.safe_dump({"apiVersion": f"{group}.istio.io/v1", "kind": kind, "metadata": metadata, "spec": spec})


def chains(listener: dict[str, Any], port: int | None = None) -> Iterator[dict[str, Any]]:
    """The filter chains of a port; None: those for any port."""
    for chain in listener["filter_chains"]:
        if chain.get("filter_chain_match", {}).get("destination_port") == port:
            yield chain


def http_filters(chain: dict[str, Any]) -> dict[str, Any]:
    """Name -> config of the filters of a chain that speaks HTTP."""
    manager = chain["filters"][-1]["typed_config"]
    return {one["name"]: one["typed_config"] for one in manager["http_filters"]}
