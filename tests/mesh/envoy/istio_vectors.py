"""Istio's cases for the tests of the compiler: their folders, what Istio made of them, and worlds from YAML."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, cast

from mesh.istio.document import read_documents
from mesh.istio.mesh_config import MeshConfig
from mesh.istio.proxies import Proxy
from mesh.istio.resource import read_resources
from mesh.istio.world import World

VECTORS = Path(__file__).parent.parent / "vectors" / "istio"
CASES = sorted(path for path in (VECTORS / "cases").iterdir() if path.is_dir())
GATEWAY = Proxy(name="gateway", namespace="infer", service_account="gateway", ip="127.0.1.1", labels={"app": "gateway"})
WORKER = Proxy(
    name="worker",
    namespace="models",
    service_account="digits",
    ip="127.0.1.11",
    labels={"app": "digits", "version": "v1"},
)

View = Callable[[dict[str, Any]], dict[str, Any]]


def _compare() -> Any:
    """The vectors' own compare.py."""
    spec = importlib.util.spec_from_file_location("compare", VECTORS / "compare.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


COMPARE = _compare()
clusters_view = cast("View", COMPARE.clusters_view)
routes_view = cast("View", COMPARE.routes_view)
endpoints_view = cast("View", COMPARE.endpoints_view)
view = cast("Callable[[Any, int], dict[str, Any]]", COMPARE.view)
differences = cast("Callable[[Any, Any], Iterable[tuple[str, Any, Any]]]", COMPARE.differences)


def golden(case: Path, proxy: str) -> dict[str, Any]:
    """What Istio generates for a proxy of a case."""
    return cast("dict[str, Any]", json.loads((case / f"{proxy}.json").read_text()))


def world_of(text: str, mesh: MeshConfig = MeshConfig()) -> World:  # noqa: B008 - it is frozen
    """The vectors' base and some more resources."""
    base = (VECTORS / "cases" / "base.yaml").read_text()
    return world_alone(f"{base}\n---\n{text}", mesh)


def world_alone(text: str, mesh: MeshConfig = MeshConfig()) -> World:  # noqa: B008 - it is frozen
    """Only these resources."""
    return World(mesh, read_resources(read_documents(text, "test.yaml")))
