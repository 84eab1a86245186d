"""Spans of sidecars, as Istio itself configures them: tracing/golden.json is what it makes of what lies beside it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from mesh.envoy.listeners import listeners
from mesh.istio.load import load_mesh_config, load_proxies, load_world

CASE = Path(__file__).parent / "tracing"
GOLDEN = json.loads((CASE / "golden.json").read_text())
PROXIES = {proxy.name: proxy for proxy in load_proxies(CASE / "proxies.yaml")}
WORLD = load_world([CASE / "config.yaml"], load_mesh_config(CASE / "mesh.yaml"))


def managers(part: object) -> Iterator[tuple[str, Any]]:
    """Each HttpConnectionManager's statistics prefix, and its tracing."""
    if isinstance(part, dict):
        if "http_filters" in part:
            yield part["stat_prefix"], part.get("tracing")
        for each in part.values():
            yield from managers(each)
    elif isinstance(part, list):
        for each in part:
            yield from managers(each)


@pytest.mark.parametrize("name", PROXIES)
def test_a_sidecar_is_traced_as_istio_has_it(name: str) -> None:
    found = dict(managers(listeners(WORLD, PROXIES[name])))
    expected = GOLDEN[name]
    for tracing in filter(None, expected.values()):  # whose node the generator does not know
        tracing["provider"]["typed_config"]["service_name"] = name
        tracing["random_sampling"] = {"value": tracing["random_sampling"].get("value", 0)}
    assert found == expected
    assert any(expected.values()) is (name not in ("lost", "unknown"))
