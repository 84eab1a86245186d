from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from mesh.istio.load import resources
from mesh.local import follow
from mesh.local.follow import Sight, changes, look


def names(folder: Path) -> list[str]:
    return [path.name for path in resources(folder)]


def test_which_files_hold_resources(tmp_path: Path) -> None:
    for name in ("b.yaml", "a.yml", "README.md", "c.yaml.new", ".hidden.yaml", ".b.yaml.swp", "d.yaml~"):
        (tmp_path / name).touch()
    (tmp_path / "folder.yaml").mkdir()
    os.mkfifo(tmp_path / "pipe.yaml")  # reading it would never end
    (tmp_path / ".#b.yaml").symlink_to("someone@somewhere.123")  # Emacs keeps its locks so
    assert names(tmp_path) == ["a.yml", "b.yaml"]


def test_a_link_is_what_it_leads_to(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "x").touch()
    (tmp_path / "a.yaml").symlink_to("elsewhere/x")
    (tmp_path / "b.yaml").symlink_to("elsewhere")
    (tmp_path / "c.yaml").symlink_to("nowhere")
    assert names(tmp_path) == ["a.yaml", "c.yaml"]  # the last one cannot be read, which is told


def seen_to_differ(folder: Path, change: Callable[[], object]) -> bool:
    before = look(folder)
    change()
    return look(folder) != before


def test_what_can_be_seen(tmp_path: Path) -> None:
    file = tmp_path / "a.yaml"
    assert seen_to_differ(tmp_path, lambda: file.write_text("a"))
    assert seen_to_differ(tmp_path, lambda: file.write_text("ab"))
    (tmp_path / "new").write_text("cd")
    os.utime(tmp_path / "new", ns=(file.stat().st_atime_ns, file.stat().st_mtime_ns))
    assert seen_to_differ(tmp_path, lambda: (tmp_path / "new").replace(file))  # size and time are as before
    assert seen_to_differ(tmp_path, lambda: file.rename(tmp_path / "b.yaml"))
    assert seen_to_differ(tmp_path, (tmp_path / "b.yaml").unlink)
    assert not seen_to_differ(tmp_path, lambda: (tmp_path / "README.md").write_text("x"))


def test_as_kubernetes_replaces_what_it_mounts(tmp_path: Path) -> None:
    for version in ("1", "2"):
        (tmp_path / f"..{version}").mkdir()
        (tmp_path / f"..{version}" / "a.yaml").write_text(version)
    (tmp_path / "..data").symlink_to("..1")
    (tmp_path / "a.yaml").symlink_to("..data/a.yaml")
    (tmp_path / "..new").symlink_to("..2")
    assert seen_to_differ(tmp_path, lambda: (tmp_path / "..new").replace(tmp_path / "..data"))
    assert [path.read_text() for path in resources(tmp_path)] == ["2"]


def test_of_a_folder_that_is_gone_nothing_is_seen(tmp_path: Path) -> None:
    assert look(tmp_path / "nowhere") == frozenset()


def test_a_link_that_leads_nowhere_does_not_hide_the_others(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").symlink_to("nowhere")
    assert seen_to_differ(tmp_path, lambda: (tmp_path / "b.yaml").write_text("x"))
    assert seen_to_differ(tmp_path, lambda: (tmp_path / "nowhere").write_text("x"))


class Script:
    """A folder whose looks are written down beforehand."""

    def __init__(self, *looks: str) -> None:
        self.left = [frozenset({(name, 0, 0, 0)}) for name in looks]

    def __call__(self, _folder: Path) -> Sight:
        if not self.left:
            raise EOFError
        return self.left.pop(0)


async def counted(monkeypatch: pytest.MonkeyPatch, *looks: str) -> list[str]:
    """The changes that count, from the first look on."""
    first, *later = looks
    monkeypatch.setattr(follow, "look", Script(*later))
    found: list[str] = []
    with contextlib.suppress(EOFError):
        async for sight in changes(Path(), Script(first)(Path()), 0.0):
            ((name, *_),) = sight
            found.append(name)
    return found


@pytest.mark.parametrize(
    ("looks", "found"),
    [
        ("aaaa", []),
        ("abb", ["b"]),
        ("ab", []),  # it may be half written
        ("abcdd", ["d"]),
        ("abaa", []),  # as it was
        ("abbbcc", ["b", "c"]),
        ("abbaa", ["b", "a"]),
    ],
)
async def test_a_change_counts_once_the_folder_is_still(
    looks: str, found: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert await counted(monkeypatch, *looks) == found


async def test_a_real_change_is_seen(tmp_path: Path) -> None:
    found = changes(tmp_path, look(tmp_path), 0.02)
    (tmp_path / "a.yaml").write_text("x")
    async with asyncio.timeout(20):
        assert await anext(found) == look(tmp_path)
