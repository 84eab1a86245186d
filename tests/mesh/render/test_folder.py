"""The folder: what is ours comes and goes, what is not stays."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from mesh.render import folder
from mesh.render.folder import Changes
from mesh.render.source import RenderError
from mesh.render.text import file_of

ONE, TWO = file_of([{"a": 1}]), file_of([{"a": 2}])


def test_what_is_to_be_done() -> None:
    present = {"same.yaml": ONE, "old.yaml": ONE, "stale.yaml": TWO, "mine.yaml": "kind: Mine\n"}
    wanted = folder.changes({"same.yaml": ONE, "old.yaml": TWO, "new.yaml": ONE}, present)
    assert wanted == Changes({"old.yaml": TWO, "new.yaml": ONE}, ("same.yaml",), ("stale.yaml",))


def test_a_foreign_file_is_not_overwritten() -> None:
    with pytest.raises(RenderError, match=r"^digits\.yaml is not from headrace mesh render: "):
        folder.changes({"digits.yaml": ONE}, {"digits.yaml": "kind: Mine\n"})
    assert folder.changes({"digits.yaml": ONE}, {"digits.yaml": TWO}).write


def test_files_are_put_in_their_place(tmp_path: Path) -> None:
    to = tmp_path / "a" / "istio"
    assert folder.read(to) == {}
    folder.apply(to, Changes({"one.yaml": ONE, "two.yaml": TWO}, (), ()))
    (to / "mine.yml").write_bytes(b"\xff")
    (to / "notes.txt").write_text("no YAML")
    (to / "folder.yaml").mkdir()
    assert folder.read(to) == {"mine.yml": "\N{REPLACEMENT CHARACTER}", "one.yaml": ONE, "two.yaml": TWO}
    assert folder.ours(folder.read(to)).keys() == {"one.yaml", "two.yaml"}
    folder.apply(to, Changes({"one.yaml": TWO}, (), ("two.yaml",)))
    assert sorted(file.name for file in to.iterdir()) == ["folder.yaml", "mine.yml", "notes.txt", "one.yaml"]
    assert (to / "one.yaml").read_text() == TWO


def test_a_reader_keeps_the_file_that_it_has_open(tmp_path: Path) -> None:
    folder.apply(tmp_path, Changes({"one.yaml": ONE}, (), ()))
    with (tmp_path / "one.yaml").open() as reader:
        folder.apply(tmp_path, Changes({"one.yaml": TWO}, (), ()))
        assert reader.read() == ONE


def test_nothing_is_removed_when_something_cannot_be_written(tmp_path: Path) -> None:
    folder.apply(tmp_path, Changes({"stale.yaml": ONE}, (), ()))
    (tmp_path / "new.yaml").mkdir()
    (tmp_path / "new.yaml" / "in the way").touch()
    with pytest.raises(OSError, match="directory"):
        folder.apply(tmp_path, Changes({"new.yaml": ONE}, (), ("stale.yaml",)))
    assert (tmp_path / "stale.yaml").read_text() == ONE


def test_what_does_not_change_is_not_touched(tmp_path: Path) -> None:
    folder.apply(tmp_path, Changes({"one.yaml": ONE}, (), ()))
    os.utime(tmp_path / "one.yaml", (1, 1))
    folder.apply(tmp_path, folder.changes({"one.yaml": ONE}, folder.read(tmp_path)))
    assert (tmp_path / "one.yaml").stat().st_mtime == 1
