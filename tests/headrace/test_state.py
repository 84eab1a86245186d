from __future__ import annotations

import os
import stat
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from headrace.demo import state
from headrace.demo.state import State
from headrace.failure import CommandError

FOUND = State(
    os.getpid(), "127.0.0.1:1", "127.0.0.1:2", "http://127.0.0.1:3", "s3cret", "/samples", "http://127.0.0.1:4"
)


def test_it_is_found_while_published_and_gone_after(tmp_path: Path) -> None:
    where = tmp_path / "headrace"
    with state.published(FOUND, where):
        assert state.find(where) == FOUND
        assert stat.S_IMODE(where.stat().st_mode) == 0o700
        assert [(file.name, stat.S_IMODE(file.stat().st_mode)) for file in where.iterdir()] == [("demo.json", 0o600)]
    assert not where.exists()
    with pytest.raises(CommandError, match="no demo is running"):
        state.find(where)


def test_it_is_private_under_any_umask(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        with state.published(FOUND, tmp_path / "headrace"):
            assert state.find(tmp_path / "headrace") == FOUND
    finally:
        os.umask(before)


def test_a_dead_demos_state_is_told(tmp_path: Path) -> None:
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    with (
        state.published(replace(FOUND, pid=ended.pid), tmp_path / "headrace"),
        pytest.raises(CommandError, match=r"is gone; start one with: headrace demo --stay"),
    ):
        state.find(tmp_path / "headrace")


def test_a_demo_takes_away_its_own_state_alone(tmp_path: Path) -> None:
    where = tmp_path / "headrace"
    later = replace(FOUND, pid=os.getppid())
    with state.published(later, where):
        with state.published(FOUND, where):
            pass
        assert not where.exists()
    with state.published(FOUND, where):
        state._write(where / "demo.json", later)
    assert state.find(where) == later


@pytest.mark.parametrize("spoil", ["open folder", "open file", "linked folder", "linked file"])
def test_what_others_could_read_or_write_is_refused(tmp_path: Path, spoil: str) -> None:
    where = tmp_path / "headrace"
    with state.published(FOUND, where):
        file = where / "demo.json"
        if spoil == "open folder":
            where.chmod(0o755)
        elif spoil == "open file":
            file.chmod(0o644)
        elif spoil == "linked folder":
            where.rename(tmp_path / "real")
            where.symlink_to(tmp_path / "real")
        else:
            file.rename(where / "real")
            file.symlink_to(where / "real")
        with pytest.raises(CommandError, match="not private to you"):
            state.find(where)


def test_a_demo_does_not_publish_in_a_folder_open_to_others(tmp_path: Path) -> None:
    (tmp_path / "headrace").mkdir(mode=0o755)
    with pytest.raises(CommandError, match="not private to you"), state.published(FOUND, tmp_path / "headrace"):
        pass
    assert not list((tmp_path / "headrace").iterdir())


@pytest.mark.skipif(os.getuid() != 0, reason="only root can give a folder to another user")
def test_another_users_folder_is_refused(tmp_path: Path) -> None:
    where = tmp_path / "headrace"
    with state.published(FOUND, where):
        os.chown(where, 12345, 12345)
        with pytest.raises(CommandError, match="not private to you"):
            state.find(where)


@pytest.mark.parametrize("content", ["", "{", "[]", '{"pid": 1}', "\udc80"])
def test_a_spoilt_file_is_told(tmp_path: Path, content: str) -> None:
    where = tmp_path / "headrace"
    with state.published(FOUND, where):
        (where / "demo.json").write_text(content, errors="surrogateescape")
        with pytest.raises(CommandError, match="is not readable as a demo's state"):
            state.find(where)


def test_the_runtime_folder_is_preferred(tmp_path: Path) -> None:
    assert state.folder({"XDG_RUNTIME_DIR": str(tmp_path)}) == tmp_path / "headrace"
    assert state.folder({"XDG_RUNTIME_DIR": str(tmp_path / "missing")}).name == f"headrace-{os.getuid()}"
    assert state.folder({}).name == f"headrace-{os.getuid()}"
