"""Telemetry changes nothing where no provider is named, as in Istio (tests/interop/test_istio.py asks Istio itself)."""

from __future__ import annotations

from pathlib import Path

import pytest

from mesh.envoy.generate import generate
from mesh.istio.telemetry import Telemetry
from tests.mesh.envoy.istio_vectors import CASES, GATEWAY, WORKER, differences, golden, view, world_of

CASE = next(path for path in CASES if path.name == "all-canary")
EVERY_LEVEL = (Path(__file__).parent / "telemetry.yaml").read_text()


@pytest.mark.parametrize("proxy", [GATEWAY, WORKER], ids=lambda proxy: proxy.name)
def test_what_is_generated_is_the_same_with_it(proxy):
    without = world_of((CASE / "config.yaml").read_text())
    with_it = world_of(f"{(CASE / 'config.yaml').read_text()}\n---\n{EVERY_LEVEL}")
    assert len(with_it.of(Telemetry)) == 4
    assert generate(with_it, proxy) == generate(without, proxy)
    assert list(differences(view(golden(CASE, proxy.name), 8001), view(generate(with_it, proxy), 8001))) == []
