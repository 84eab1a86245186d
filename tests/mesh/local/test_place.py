from __future__ import annotations

import fcntl
import os
import shutil
import stat
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

import pytest

from mesh.local.failure import MeshError
from mesh.local.place import place_of, runs, taken


@pytest.fixture
def place(tmp_path: Path) -> Path:
    return place_of(tmp_path / "istio", {"XDG_RUNTIME_DIR": str(tmp_path)})


def test_it_is_in_the_runtime_folder(tmp_path: Path, place: Path) -> None:
    assert place.parent == tmp_path / "headrace"


@pytest.mark.parametrize("runtime", [None, "", "relative", "/not/there"])
def test_without_a_good_one_it_is_in_the_temporary_folder(
    runtime: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "relative").mkdir()
    found = place_of(Path("istio"), {} if runtime is None else {"XDG_RUNTIME_DIR": runtime})
    assert found.parent == tmp_path / f"headrace-{os.getuid()}"


def test_each_folder_has_its_own_however_it_is_written(tmp_path: Path) -> None:
    environ = {"XDG_RUNTIME_DIR": str(tmp_path)}
    (tmp_path / "a").mkdir()
    (tmp_path / "link").symlink_to("a")
    assert place_of(tmp_path / "a", environ) == place_of(tmp_path / "b" / ".." / "link", environ)
    assert place_of(tmp_path / "a", environ) != place_of(tmp_path / "b", environ)


def test_it_is_private_and_gone_afterwards(tmp_path: Path, place: Path) -> None:
    before = os.umask(0)
    try:
        with taken(place, tmp_path):
            for each in (place, place.parent):
                assert stat.S_IMODE(each.stat().st_mode) == 0o700
            (place / "sidecar").mkdir()
            (place / "sidecar" / "file").touch()
    finally:
        os.umask(before)
    assert not [*tmp_path.iterdir()]


def test_a_mesh_runs_once(tmp_path: Path, place: Path) -> None:
    with taken(place, tmp_path):
        assert runs(place)
        with pytest.raises(MeshError, match=f"the mesh of {tmp_path} runs already"), taken(place, tmp_path):
            pytest.fail("it runs twice")
        assert runs(place)
    assert not runs(place)
    with taken(place, tmp_path):
        assert runs(place)


def test_two_meshes_are_side_by_side(tmp_path: Path) -> None:
    environ = {"XDG_RUNTIME_DIR": str(tmp_path)}
    one, two = place_of(tmp_path / "a", environ), place_of(tmp_path / "b", environ)
    with taken(one, tmp_path):
        with taken(two, tmp_path):
            pass
        assert [*one.parent.iterdir()] == [one]
    assert not one.parent.exists()


def test_what_a_killed_mesh_has_left_is_taken_away(tmp_path: Path, place: Path) -> None:
    code = f"""
import contextlib, pathlib, sys, time
from mesh.local.place import taken
place = pathlib.Path({str(place)!r})
with taken(place, place):
    (place / "sidecar").mkdir()
    (place / "sidecar" / "secret").touch()
    (place / "link").symlink_to("/etc")
    print("ready", flush=True)
    time.sleep(60)
"""
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) as killed:
        assert killed.stdout is not None
        assert killed.stdout.readline() == b"ready\n"
        assert runs(place)
        killed.kill()
    assert not runs(place)
    assert (place / "sidecar" / "secret").exists()
    with taken(place, tmp_path):
        assert not [*place.iterdir()]
    assert Path("/etc").exists()


def test_someone_who_only_looks_keeps_no_mesh_from_starting(tmp_path: Path, place: Path) -> None:
    place.mkdir(parents=True, mode=0o700)
    place.parent.chmod(0o700)
    looking = os.open(place, os.O_RDONLY)
    fcntl.flock(looking, fcntl.LOCK_SH)
    leaves = threading.Timer(0.05, os.close, [looking])
    leaves.start()
    with taken(place, tmp_path):
        assert runs(place)
    leaves.join()


def test_a_lock_on_what_is_no_longer_there_is_none(
    tmp_path: Path, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its last owner takes the place away, and another one makes it anew, just before we lock it."""
    flock = fcntl.flock

    def late(handle: int, operation: int) -> None:
        monkeypatch.setattr(fcntl, "flock", flock)
        place.rmdir()
        place.mkdir(mode=0o700)
        flock(handle, operation)

    monkeypatch.setattr(fcntl, "flock", late)
    with taken(place, tmp_path):
        assert runs(place)


@pytest.mark.parametrize("which", ["place", "parent"])
@pytest.mark.parametrize("mode", [0o750, 0o707, 0o777])
def test_a_folder_that_others_can_enter_is_refused(which: str, mode: int, tmp_path: Path, place: Path) -> None:
    place.mkdir(parents=True, mode=0o700)
    place.parent.chmod(0o700)
    (place if which == "place" else place.parent).chmod(mode)
    with pytest.raises(MeshError, match="is not private to you"), taken(place, tmp_path):
        pytest.fail("anyone could write there")
    with pytest.raises(MeshError, match="is not private to you"):  # and say there whatever they like
        runs(place)


@pytest.mark.parametrize("what", ["link", "file"])
def test_what_is_no_folder_is_refused(what: str, tmp_path: Path, place: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir(mode=0o700)
    place.parent.mkdir(mode=0o700)
    if what == "link":
        place.symlink_to(elsewhere)
    else:
        place.touch(mode=0o600)
    with pytest.raises(MeshError, match="is not private to you"), taken(place, tmp_path):
        pytest.fail("it may be another's")


def test_where_nothing_can_be_kept_it_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    place = tmp_path / "file" / "headrace" / "mesh-1"
    words = "Not a directory: the files of the mesh cannot be kept there; choose another place with XDG_RUNTIME_DIR"
    with pytest.raises(MeshError, match=words), taken(place, tmp_path):
        pytest.fail("there is no such place")


def test_a_place_that_was_removed_meanwhile_is_no_trouble_at_the_end(tmp_path: Path, place: Path) -> None:
    with taken(place, tmp_path):
        shutil.rmtree(place.parent)
    assert not [*tmp_path.iterdir()]
