"""A plain Envoy takes what comes of the rendered files. Needs the `envoy` of the extra `mesh`."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from mesh.envoy.generate import generate
from tests.envoy import ENVOY, needs_envoy
from tests.mesh.render.rendered import GATEWAY, LOCAL, WORKER, proxies, world

MANAGER = "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager"
ROUTER = "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router"

pytestmark = needs_envoy


def bootstrap(config: Mapping[str, Any]) -> dict[str, Any]:
    """All of it in one file. Control plane and secrets are named, but not asked; Istio's own filters are left out."""
    agent = {"name": "sds-grpc", "connect_timeout": "1s"}
    clusters = [{key: value for key, value in one.items() if key != "filters"} for one in config["clusters"]]
    service = {"envoy_grpc": {"cluster_name": "sds-grpc"}}
    ads = {"api_type": "GRPC", "transport_api_version": "V3", "grpc_services": [service]}
    listeners = [*config["listeners"], *map(listener, config["routes"])]
    return {
        "node": {"id": "test", "cluster": "test"},
        "static_resources": {"clusters": [agent, *clusters], "listeners": listeners},
        "dynamic_resources": {"ads_config": ads},
    }


def listener(table: Mapping[str, Any]) -> dict[str, Any]:
    """A listener that never listens, so that routes are checked which would otherwise be asked for."""
    router = {"name": "envoy.filters.http.router", "typed_config": {"@type": ROUTER}}
    manager = {"@type": MANAGER, "stat_prefix": "x", "route_config": table, "http_filters": [router]}
    chain = {"filters": [{"name": "http", "typed_config": manager}]}
    return {"address": {"socket_address": {"address": "127.0.0.1", "port_value": 0}}, "filter_chains": [chain]}


def validated(folder: Path, config: Mapping[str, Any]) -> subprocess.CompletedProcess[str]:
    path = folder / "envoy.json"
    path.write_text(json.dumps(bootstrap(config)))
    command = [str(ENVOY), "--mode", "validate", "-l", "error", "-c", str(path)]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)


@pytest.mark.parametrize("proxy", [GATEWAY, WORKER])
@pytest.mark.parametrize("catalog", LOCAL, ids=lambda path: path.name)
def test_it_takes_every_catalog(tmp_path: Path, catalog: Path, proxy: str) -> None:
    rendered = world(catalog)
    said = validated(tmp_path, generate(rendered, proxies(rendered)[proxy]))
    assert said.returncode == 0, said.stderr


@pytest.mark.parametrize("part", ["clusters", "listeners", "routes"])
def test_it_looks_at_every_part(tmp_path: Path, part: str) -> None:
    rendered = world(LOCAL[0])
    config = generate(rendered, proxies(rendered)[GATEWAY])
    (first, *rest) = config[part]
    assert validated(tmp_path, config | {part: [{**first, "no_such_field": 1}, *rest]}).returncode != 0
