from __future__ import annotations

import tempfile
from pathlib import Path

import pytest

from workers.triton import scratch as module
from workers.triton.scratch import scratch


@pytest.fixture(autouse=True)
def places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "shm").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(module, "_SHARED", tmp_path / "shm")
    return tmp_path


def test_it_goes_with_its_shared_memory(places: Path) -> None:
    (places / "shm" / "another-1").touch()
    with scratch() as folder:
        (folder / "models").mkdir()
        (places / "shm" / f"{folder.name}-1").touch()
    assert not folder.exists()
    assert [each.name for each in (places / "shm").iterdir()] == ["another-1"]


def test_what_a_killed_one_left_is_removed_and_what_lives_is_not(places: Path) -> None:
    dead = places / "headrace-triton-dead"
    dead.mkdir()
    (dead / "lock").touch()
    (places / "shm" / "headrace-triton-dead-7").touch()
    with scratch() as living, scratch() as other:
        assert living.is_dir() and other.is_dir()
        assert not dead.exists()
        assert not list((places / "shm").iterdir())
