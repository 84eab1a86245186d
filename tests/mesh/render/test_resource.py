"""Values as Istio takes them."""

from __future__ import annotations

import pytest

from mesh.istio.values import Duration
from mesh.render.resource import duration, given, percent, resource


@pytest.mark.parametrize(
    ("seconds", "written"),
    [(0.5, "500ms"), (5.0, "5s"), (120.0, "2m"), (90.0, "90s"), (0.1, "100ms"), (0.0005, "1ms"), (0.0015, "2ms")],
)
def test_durations_are_whole_milliseconds(seconds: float, written: str) -> None:
    assert duration(seconds) == written
    assert Duration.parse(written).nanoseconds % 10**6 == 0


@pytest.mark.parametrize("share", range(1, 101))
def test_shares_are_whole_percents(share: int) -> None:
    assert percent(share / 100) == share


def test_what_is_not_given_is_not_there() -> None:
    assert list(given(b=0, a=None, c=False)) == ["b", "c"]


def test_a_resource_in_the_order_of_its_parts() -> None:
    found = resource("Sidecar", "infer", "gateway", {"egress": []})
    assert list(found) == ["apiVersion", "kind", "metadata", "spec"]
    assert found["metadata"] == {"name": "gateway", "namespace": "infer"}
