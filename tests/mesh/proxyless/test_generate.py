"""What a proxyless caller is told is what Istio's own control plane tells it, whole, for every case that it can do."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest

from mesh.proxyless.generate import generate
from tests.mesh.envoy.istio_vectors import CASES as VECTORS
from tests.mesh.proxyless.goldens import (
    GOLDENS,
    OWN,
    ROUTES,
    golden_of,
    loaded,
    of_several_addresses,
    view,
    without_addresses,
)

CASES = [case for case in (*VECTORS, *ROUTES, *OWN) if golden_of(case).exists()]


def seen(case: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """Istio's and ours."""
    world, proxy = loaded(case)
    several = of_several_addresses(world)
    istio = json.loads(golden_of(case).read_text())
    return without_addresses(view(istio), several), without_addresses(view(generate(world, proxy)), several)


@pytest.mark.parametrize("case", CASES, ids=lambda path: path.name)
def test_nothing_differs(case: Path) -> None:
    istio, ours = seen(case)
    for part, resources in istio.items():
        assert ours[part] == resources


def test_every_golden_is_compared() -> None:
    assert {golden_of(case) for case in CASES} == set(GOLDENS.glob("*.json"))
    assert set(OWN) <= set(CASES)


@pytest.mark.parametrize("part", ["listeners", "routes", "clusters", "endpoints"])
def test_a_difference_is_found(part: str) -> None:
    istio, ours = seen(next(case for case in OWN if case.name == "canary"))
    assert istio[part] == ours[part]
    other = copy.deepcopy(ours)
    other[part].popitem()
    assert istio[part] != other[part]
