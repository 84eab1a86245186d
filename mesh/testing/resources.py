"""The resources of a mesh under test. Law: the user's files are copied, never changed.

In a cluster, Kubernetes says which services there are and which pods are behind them. What a test says of these is
written here as Istio writes it for what is no pod: a ServiceEntry for each host, a WorkloadEntry for each copy.
"""

from __future__ import annotations

import contextlib
import re
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import yaml

from mesh.istio.document import RefusedError, read_documents
from mesh.istio.load import resources
from protos import units

Labels = Mapping[str, str]
Services = Mapping[str, Sequence[Labels]]
"""HOST:PORT of a service -> the labels of each of its copies, the same for each port of a host."""

ADDED: Final = "mesh-testing.yaml"
_BETWEEN: Final = re.compile(r"^---[ \t]*(?:#.*)?\n", re.MULTILINE)
_SERVICE: Final = "mesh-testing/service"
_SOMEWHERE: Final = "127.0.0.1"  # stand-ins listen elsewhere


@dataclass(frozen=True)
class Files:
    """A folder of the user's, and the copy of it that is in force."""

    users: Path
    copy: Path

    @contextlib.contextmanager
    def told_of(self) -> Iterator[None]:
        """What is refused inside is told of the user's own files."""
        try:
            yield
        except RefusedError as refused:
            mistakes = [mistake.replace(str(self.copy), str(self.users)) for mistake in refused.mistakes]
            raise RefusedError(mistakes) from None


def copied(source: Path, to: Path) -> Files:
    """Copy the files of resources of a folder, or one file, to a new folder."""
    if not source.exists():
        raise ValueError(f"there is no {source}")
    to.mkdir()
    for path in [source] if source.is_file() else resources(source):
        shutil.copyfile(path, to / path.name)
    return Files(source.parent if source.is_file() else source, to)


def written(services: Services, caller: str, caller_labels: Labels) -> str:
    """YAML of the services, their copies, and the one who calls them (`NAMESPACE/SERVICE_ACCOUNT`). ValueError."""
    return yaml.safe_dump_all([*_services(services), _caller(caller, caller_labels)], sort_keys=False)


def without(text: str, kind: str, name: str, namespace: str | None) -> str | None:
    """A file but for one resource (of any namespace: None), the rest as it was; None: it is not there."""
    documents = _BETWEEN.split(text)
    kept = [one for one in documents if not _is(one, kind, name, namespace)]
    return None if len(kept) == len(documents) else "---\n".join(kept)


def _is(document: str, kind: str, name: str, namespace: str | None) -> bool:
    for one in read_documents(document, ADDED):
        metadata = one.data.get("metadata", {})
        whose = one.data.get("kind"), metadata.get("name"), namespace and metadata.get("namespace", "default")
        return whose == (kind, name, namespace)
    return False


def _services(services: Services) -> Iterator[dict[str, Any]]:
    for host, (ports, copies) in _hosts(services).items():
        name, namespace = [*host.split("."), "default"][:2]
        selector = {_SERVICE: name}
        spec: dict[str, Any] = {
            "hosts": [host],
            "location": "MESH_INTERNAL",
            "resolution": "STATIC",
            "ports": [{"number": port, "name": f"grpc-{port}", "protocol": "GRPC"} for port in ports],
            "workloadSelector": {"labels": selector},
        }
        yield _resource("ServiceEntry", name, namespace, spec)
        for index, labels in enumerate(copies, 1):
            yield _workload(f"{name}-{index}", namespace, name, {**labels, **selector})


def _hosts(services: Services) -> Mapping[str, tuple[list[int], Sequence[Labels]]]:
    """Host -> its ports, and the labels of its copies."""
    found: dict[str, tuple[list[int], Sequence[Labels]]] = {}
    for service, copies in services.items():
        host, _, port = units.address(service).rpartition(":")
        ports, same = found.setdefault(host, ([], copies))
        if same != copies:
            raise ValueError(f"services: the ports of {host} have the same copies")
        ports.append(int(port))
    return found


def _caller(caller: str, labels: Labels) -> dict[str, Any]:
    namespace, slash, account = caller.partition("/")
    if not slash:
        raise ValueError(f"caller: {caller!r} is not NAMESPACE/SERVICE_ACCOUNT")
    return _workload(account, namespace, account, labels)


def _workload(name: str, namespace: str, account: str, labels: Labels) -> dict[str, Any]:
    spec = {"address": _SOMEWHERE, "labels": dict(labels), "serviceAccount": account}
    return _resource("WorkloadEntry", name, namespace, spec)


def _resource(kind: str, name: str, namespace: str, spec: Mapping[str, Any]) -> dict[str, Any]:
    metadata = {"name": name, "namespace": namespace}
    return {"apiVersion": "networking.istio.io/v1", "kind": kind, "metadata": metadata, "spec": spec}
