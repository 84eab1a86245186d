"""The benchmark of a mesh, briefly: that it measures, tells failures, and leaves nothing behind."""

from __future__ import annotations

import json
from collections.abc import Iterator

import psutil
import pytest
from typer.testing import CliRunner

from loadtest import bench, mesh
from loadtest.children import Broken
from tests.envoy import needs_envoy

pytestmark = needs_envoy


@pytest.fixture(autouse=True)
def _nothing_left_behind() -> Iterator[None]:
    before = set(psutil.Process().children(recursive=True))
    yield
    assert set(psutil.Process().children(recursive=True)) <= before


def test_a_short_run() -> None:
    result = CliRunner().invoke(bench.app, ["mesh", "--rounds", "1", "--changes", "2", "-o", "json"])
    assert result.exit_code == 0, result.output
    (found,) = json.loads(result.stdout)
    assert found["first_answer"] > 0
    assert len(found["changes"]) == 2
    assert found["calls"] > 0
    assert found["failed"] == 0
    assert len(found["resident"]) == len(found["proportional"]) == 5
    assert all(0 < part <= whole for part, whole in zip(found["proportional"], found["resident"], strict=True))


def test_a_change_without_effect_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mesh, "_IN_FORCE", 1.0)
    first = mesh.shares(1)
    monkeypatch.setattr(mesh, "shares", lambda _: first)
    result = CliRunner().invoke(bench.app, ["mesh", "--rounds", "1", "--changes", "2"])
    assert result.exit_code == 1
    assert "nothing measured: a change was not in force within 1 s" in result.output


def test_what_is_not_linux_has_no_mesh(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mesh.sys, "platform", "darwin")
    with pytest.raises(Broken, match="a mesh on one machine needs Linux"):
        mesh.measure_mesh(1)
