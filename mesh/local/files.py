"""The files that an Envoy reads. Law: every source of configuration is a file, and a file is one response of xDS.

Envoy takes a file up when it is replaced by rename, and says by `version_text` which one it has taken.
Source: https://www.envoyproxy.io/docs/envoy/latest/api-docs/xds_protocol#filesystem-subscriptions.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from hashlib import blake2s
from pathlib import Path
from typing import Final

from mesh.envoy.proto import Json
from mesh.local.config import Config

CLUSTERS: Final = "clusters.json"
LISTENERS: Final = "listeners.json"
ROUTES: Final = "routes.json"

_TYPE: Final = "type.googleapis.com/"
_CLUSTER: Final = "envoy.config.cluster.v3.Cluster"
_ASSIGNMENT: Final = "envoy.config.endpoint.v3.ClusterLoadAssignment"
_ROUTES: Final = "envoy.config.route.v3.RouteConfiguration"
_LISTENER: Final = "envoy.config.listener.v3.Listener"
_SECRET: Final = "envoy.extensions.transport_sockets.tls.v3.Secret"  # noqa: S105 - a type's name


@dataclass(frozen=True)
class File:
    """A response of xDS: `version` tells its content, `stat` is the statistic in which Envoy tells the version."""

    text: str
    version: str
    stat: str


@dataclass(frozen=True)
class Files:
    """What one Envoy reads, by file name."""

    clusters: File
    endpoints: Mapping[str, File]
    routes: File
    listeners: File


def files(config: Config, folder: Path) -> Files:
    """The configuration as the files of a folder."""
    stats = {str(cluster["name"]): f"cluster.{cluster['alt_stat_name']}.version_text" for cluster in config.clusters}
    named = [(str(assignment["cluster_name"]), assignment) for assignment in config.endpoints]
    assignments = {endpoints_of(name): _file(_ASSIGNMENT, [one], folder, stats[name]) for name, one in named}
    (table,) = config.routes
    return Files(
        clusters=clusters_file(config.clusters, folder),
        endpoints=assignments,
        routes=_file(_ROUTES, [table], folder, f"http.outbound;.rds.{table['name']}.version_text"),
        listeners=_file(_LISTENER, config.listeners, folder, "listener_manager.lds.version_text"),
    )


def clusters_file(clusters: Iterable[Json], folder: Path) -> File:
    """The file of these clusters."""
    return _file(_CLUSTER, [*clusters], folder, "cluster_manager.cds.version_text")


def secret_file(secret: Json, folder: Path) -> File:
    """The file of a certificate with its key, or of the roots."""
    return _file(_SECRET, [secret], folder, f"sds.{secret['name']}.version_text")


def secret_of(name: str) -> str:
    """The file of a secret."""
    return f"secret-{name}.json"


def endpoints_of(cluster: str) -> str:
    """The file of a cluster's endpoints; names of clusters may be longer than those of files."""
    return f"endpoints-{_digest(cluster)}.json"


def source(path: Path) -> Json:
    """envoy.config.core.v3.ConfigSource: a file."""
    return {"path_config_source": {"path": str(path)}, "resource_api_version": "V3"}


def _file(kind: str, resources: Sequence[Json], folder: Path, stat: str) -> File:
    typed = [{"@type": _TYPE + kind, **_by_file(resource, folder)} for resource in resources]
    version = _digest(json.dumps(typed))
    return File(json.dumps({"version_info": version, "resources": typed}), version, stat)


def _digest(text: str) -> str:
    return blake2s(text.encode(), digest_size=8).hexdigest()


def _by_file(resource: Json, folder: Path) -> Json:
    """A resource whose own sources (of endpoints, routes and secrets) are files."""
    return {name: _sourced(value, folder) for name, value in _replaced(resource, folder).items()}


def _sourced(value: object, folder: Path) -> object:
    if isinstance(value, dict):
        return _by_file(value, folder)
    return [_sourced(item, folder) for item in value] if isinstance(value, list) else value


def _replaced(part: Json, folder: Path) -> Json:
    if "eds_config" in part:
        return {**part, "eds_config": source(folder / endpoints_of(str(part["service_name"])))}
    if "sds_config" in part:
        return {**part, "sds_config": source(folder / secret_of(str(part["name"])))}
    return {**part, "config_source": source(folder / ROUTES)} if "route_config_name" in part else part


def put(path: Path, text: str) -> None:
    """Replace a file in one step, readable by this user alone."""
    written = path.with_name(f".{path.name}.new")
    with open(os.open(written, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w", encoding="utf-8") as file:  # noqa: PTH123 - a mode from the start
        file.write(text)
    written.rename(path)
