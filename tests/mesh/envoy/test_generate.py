"""The whole configuration decides traffic as Istio's does, for every case and both proxies."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest

from mesh.envoy.generate import generate
from mesh.istio.load import load_case
from tests.mesh.envoy.istio_vectors import CASES, differences, golden, view

PORT = 8001


@pytest.mark.parametrize("case", CASES, ids=lambda path: path.name)
def test_nothing_that_decides_traffic_differs(case: Path) -> None:
    world, proxies = load_case(case)
    for proxy in proxies:
        istio, ours = golden(case, proxy.name), generate(world, proxy)
        assert list(differences(view(istio, PORT), view(ours, PORT))) == []


@pytest.mark.parametrize("part", ["clusters", "routes", "listeners", "endpoints"])
def test_a_part_that_is_missing_is_found(part: str) -> None:
    case = next(path for path in CASES if path.name == "all-canary")
    istio = golden(case, "worker")
    without: dict[str, Any] = copy.deepcopy(istio) | {part: []}
    assert list(differences(view(istio, PORT), view(without, PORT))) != []
