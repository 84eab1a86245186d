"""Resources from files. Law: the one place here that touches the disk; everything else works on what was read."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Final, TypeVar

from pydantic import ValidationError

from mesh.istio.document import Document, RefusedError, read_documents
from mesh.istio.mesh_config import MeshConfig
from mesh.istio.message import Message
from mesh.istio.proxies import Proxy
from mesh.istio.resource import path as place
from mesh.istio.resource import read_resources, words
from mesh.istio.world import World

_LARGEST: Final = 16 * 1024 * 1024  # characters of a file


def is_of_resources(name: str) -> bool:
    """Whether a file of a folder holds resources, by its name; in hidden ones editors keep their own."""
    return name.endswith((".yaml", ".yml")) and not name.startswith(".")


def resources(folder: Path) -> list[Path]:
    """The files of a folder that hold resources, by name; a link that leads nowhere is one that cannot be read."""
    named = (path for path in folder.iterdir() if is_of_resources(path.name))
    return sorted(path for path in named if path.is_file() or (path.is_symlink() and not path.exists()))


def load_world(files: Iterable[Path], mesh: MeshConfig = MeshConfig()) -> World:  # noqa: B008 - it is frozen
    """The world of some files. Raises RefusedError with every mistake of every file."""
    documents: list[Document] = []
    mistakes: list[str] = []
    for file in files:
        try:
            documents += read_documents(_text(file), str(file))
        except RefusedError as refused:
            mistakes += refused.mistakes
    if mistakes:
        raise RefusedError(mistakes)
    return World(mesh, read_resources(documents))


def load_mesh_config(file: Path) -> MeshConfig:
    """The mesh's settings (`mesh.yaml`). Raises RefusedError."""
    documents = read_documents(_text(file), str(file))
    if len(documents) > 1:
        raise RefusedError([f"{documents[1].position()}: more than one document"])
    return _read(MeshConfig, documents[0]) if documents else MeshConfig()


def load_proxies(file: Path) -> tuple[Proxy, ...]:
    """The proxies of `proxies.yaml`, a list. Raises RefusedError."""
    documents = read_documents("proxies:\n" + _text(file), str(file))
    return _read(_Proxies, documents[0]).proxies if documents else ()


def load_case(case: Path) -> tuple[World, tuple[Proxy, ...]]:
    """A folder with `config.yaml`; `base.yaml`, `mesh.yaml` and `proxies.yaml` lie there or one folder up."""
    base, mesh, proxies = (_near(case, name) for name in ("base.yaml", "mesh.yaml", "proxies.yaml"))
    files = [*([base] if base else []), case / "config.yaml"]
    world = load_world(files, load_mesh_config(mesh) if mesh else MeshConfig())
    return world, load_proxies(proxies) if proxies else ()


class _Proxies(Message):
    proxies: tuple[Proxy, ...] = ()


Read = TypeVar("Read", bound=Message)


def _read(of: type[Read], document: Document) -> Read:
    try:
        return of.read(document.data)
    except ValidationError as error:
        mistakes = [f"{document.position(where)}: {place(where)}: {what}" for where, what in words(error)]
        raise RefusedError(mistakes) from None


def _near(case: Path, name: str) -> Path | None:
    return next((file for file in (case / name, case.parent / name) if file.is_file()), None)


def _text(file: Path) -> str:
    try:
        with file.open(encoding="utf-8") as opened:
            text = opened.read(_LARGEST + 1)
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "not UTF-8"
        raise RefusedError([f"{file}: cannot be read: {why}"]) from None
    if len(text) > _LARGEST:
        raise RefusedError([f"{file}: cannot be read: it has more than {_LARGEST} characters"])
    return text
