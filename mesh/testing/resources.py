"""The resources of a mesh under test. Law: the user's files are copied, never changed.

In a cluster, Kubernetes says which services there are and which pods are behind them. What a test says of these is
written here as Istio writes it for what is no pod: a ServiceEntry for each host, a WorkloadEntry for each copy.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import yaml

Labels = Mapping[str, str]
Services = Mapping[str, Sequence[Labels]]
"""HOST:PORT of a service -> the labels of each of its copies."""

ADDED: Final = "mesh-testing.yaml"
_SERVICE: Final = "mesh-testing/service"
_SOMEWHERE: Final = "127.0.0.1"  # stand-ins listen elsewhere


def copied(source: Path, to: Path) -> None:
    """Copy the files of resources of a folder, or one file, to a folder."""
    files = [source] if source.is_file() else [path for path in source.iterdir() if path.suffix in (".yaml", ".yml")]
    for path in files:
        (to / path.name).write_text(path.read_text())


def written(services: Services, caller: str, caller_labels: Labels) -> str:
    """YAML of the services, their copies, and the one who calls them (`NAMESPACE/SERVICE_ACCOUNT`)."""
    documents = [*_services(services), _caller(caller, caller_labels)] if services else []
    return yaml.safe_dump_all(documents, sort_keys=False)


def without(text: str, kind: str, name: str) -> str | None:
    """The documents of a file but for one resource; None: it is not among them."""
    documents = [one for one in yaml.safe_load_all(text) if one]
    kept = [one for one in documents if (one.get("kind"), one.get("metadata", {}).get("name")) != (kind, name)]
    return None if len(kept) == len(documents) else yaml.safe_dump_all(kept, sort_keys=False)


def _services(services: Services) -> Iterator[dict[str, Any]]:
    for service, copies in services.items():
        host, _, port = service.rpartition(":")
        name, namespace = [*host.split("."), "default"][:2]
        selector = {_SERVICE: name}
        spec: dict[str, Any] = {
            "hosts": [host],
            "location": "MESH_INTERNAL",
            "resolution": "STATIC",
            "ports": [{"number": int(port), "name": "grpc", "protocol": "GRPC"}],
            "workloadSelector": {"labels": selector},
        }
        yield _resource("ServiceEntry", name, namespace, spec)
        for index, labels in enumerate(copies, 1):
            yield _workload(f"{name}-{index}", namespace, name, {**labels, **selector})


def _caller(caller: str, labels: Labels) -> dict[str, Any]:
    namespace, _, account = caller.partition("/")
    return _workload(account, namespace, account, labels)


def _workload(name: str, namespace: str, account: str, labels: Labels) -> dict[str, Any]:
    spec = {"address": _SOMEWHERE, "labels": dict(labels), "serviceAccount": account}
    return _resource("WorkloadEntry", name, namespace, spec)


def _resource(kind: str, name: str, namespace: str, spec: Mapping[str, Any]) -> dict[str, Any]:
    metadata = {"name": name, "namespace": namespace}
    return {"apiVersion": "networking.istio.io/v1", "kind": kind, "metadata": metadata, "spec": spec}
