"""The folder of rendered files. Law: what we did not write is never touched, and no reader sees half a file.

A file is put in its place by rename; the name it has until then does not end as that of a resource file does.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from mesh.istio.load import resources
from mesh.render.source import RenderError
from mesh.render.text import is_ours


@dataclass(frozen=True)
class Changes:
    """Files to write (name -> text), to leave as they are, and to remove."""

    write: Mapping[str, str]
    keep: tuple[str, ...]
    remove: tuple[str, ...]


def read(folder: Path) -> Mapping[str, str]:
    """Name -> text of every YAML file in the folder; bytes that are no UTF-8 are replaced. Raises OSError."""
    if not folder.exists():
        return {}
    return {file.name: file.read_text(errors="replace") for file in resources(folder)}


def ours(files: Mapping[str, str]) -> Mapping[str, str]:
    """Those that were rendered."""
    return {name: text for name, text in files.items() if is_ours(text)}


def changes(rendered: Mapping[str, str], present: Mapping[str, str]) -> Changes:
    """What makes the present files the rendered ones. Raises RenderError where a file is not ours to overwrite."""
    mine = ours(present)
    foreign = [name for name in rendered if name in present and name not in mine]
    if foreign:
        what = "is not from headrace mesh render: move it away, or render into another folder"
        raise RenderError(f"{name} {what}" for name in foreign)
    return Changes(
        write={name: text for name, text in rendered.items() if present.get(name) != text},
        keep=tuple(name for name, text in rendered.items() if present.get(name) == text),
        remove=tuple(name for name in mine if name not in rendered),
    )


def apply(folder: Path, wanted: Changes) -> None:
    """Write, and then remove: a route is rather there twice for a moment than not at all. Raises OSError."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in wanted.write.items():
        new = folder / f".{name}.new"
        new.write_text(text)
        new.replace(folder / name)
    for name in wanted.remove:
        (folder / name).unlink(missing_ok=True)
