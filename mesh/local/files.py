"""The files that an Envoy reads. Law: every source of configuration is a file, and a file is one response of xDS.

Envoy takes a file up when it is replaced by rename, and says by `version_text` which one it has taken. What never
changes is no file: the roots are in the bootstrap.
Source: https://www.envoyproxy.io/docs/envoy/latest/api-docs/xds_protocol#filesystem-subscriptions.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from hashlib import blake2s
from pathlib import Path
from typing import Final

from mesh.envoy.proto import ROOT_CERTIFICATES, WORKLOAD_CERTIFICATE, Json
from mesh.local.config import Config

CLUSTERS: Final = "clusters.json"
LISTENERS: Final = "listeners.json"
ROUTES: Final = "routes.json"
CERTIFICATE: Final = "certificate.json"

_TYPE: Final = "type.googleapis.com/"
_CLUSTER: Final = "envoy.config.cluster.v3.Cluster"
_ROUTES: Final = "envoy.config.route.v3.RouteConfiguration"
_LISTENER: Final = "envoy.config.listener.v3.Listener"
_SECRET: Final = "envoy.extensions.transport_sockets.tls.v3.Secret"  # noqa: S105 - a type's name


@dataclass(frozen=True)
class File:
    """A response of xDS: resources as JSON, and their version, which Envoy tells as `stat` once it has taken them."""

    resources: str
    version: str
    stat: str

    @property
    def text(self) -> str:
        """envoy.service.discovery.v3.DiscoveryResponse."""
        return f'{{"version_info": "{self.version}", "resources": {self.resources}}}'

    def again(self, mark: str) -> File:
        """The same under another version, so that Envoy tells when it has taken it once more."""
        return replace(self, version=f"{self.version}-{mark}")


@dataclass(frozen=True)
class Files:
    """What one Envoy reads, besides its certificate."""

    clusters: File
    routes: File
    listeners: File


def files(config: Config, folder: Path) -> Files:
    """The configuration as the files of a folder."""
    return Files(
        clusters=clusters_file(config.clusters, folder),
        routes=_file(_ROUTES, [config.routes], folder, f"http.outbound;.rds.{config.routes['name']}.version_text"),
        listeners=_file(_LISTENER, config.listeners, folder, "listener_manager.lds.version_text"),
    )


def clusters_file(clusters: Iterable[Json], folder: Path) -> File:
    """The file of these clusters."""
    return _file(_CLUSTER, [*clusters], folder, "cluster_manager.cds.version_text")


def certificate_file(secret: Json, folder: Path) -> File:
    """The file of a certificate with its key."""
    return _file(_SECRET, [secret], folder, f"sds.{WORKLOAD_CERTIFICATE}.version_text")


def source(path: Path) -> Json:
    """envoy.config.core.v3.ConfigSource: a file."""
    return {"path_config_source": {"path": str(path)}, "resource_api_version": "V3"}


def _file(kind: str, resources: Sequence[Json], folder: Path, stat: str) -> File:
    typed = [{"@type": _TYPE + kind, **_by_file(resource, folder)} for resource in resources]
    text = json.dumps(typed)
    return File(text, blake2s(text.encode(), digest_size=8).hexdigest(), stat)


def _by_file(resource: Json, folder: Path) -> Json:
    """A resource whose own sources (of routes and secrets) are files."""
    return {name: _sourced(value, folder) for name, value in _replaced(resource, folder).items()}


def _sourced(value: object, folder: Path) -> object:
    if isinstance(value, dict):
        return _by_file(value, folder)
    return [_sourced(item, folder) for item in value] if isinstance(value, list) else value


def _replaced(part: Json, folder: Path) -> Json:
    if part.get("name") == ROOT_CERTIFICATES and "sds_config" in part:
        return {"name": ROOT_CERTIFICATES}
    if "sds_config" in part:
        return {**part, "sds_config": source(folder / CERTIFICATE)}
    return {**part, "config_source": source(folder / ROUTES)} if "route_config_name" in part else part


def put(path: Path, text: str) -> None:
    """Replace a file in one step, readable by this user alone."""
    written = path.with_name(f".{path.name}.new")
    with open(os.open(written, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w", encoding="utf-8") as file:  # noqa: PTH123 - a mode from the start
        file.write(text)
    written.rename(path)
