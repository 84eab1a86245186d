"""Weights in a folder of YAML. Law: a file is replaced in one step by one that differs in weights alone, or not at all.

Files are found by what they hold. A new text is read again before it counts: it must hold the same data but for the
weights, and a VirtualService that Istio would take. Whoever else writes the file meanwhile is not overwritten.
"""

from __future__ import annotations

import fcntl
import json
import os
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mesh.istio.document import Document, RefusedError, read_documents
from mesh.istio.load import resources
from mesh.istio.resource import read_resource
from mesh.of_model import choose
from mesh.shift.edit import UneditableError, edited
from mesh.shift.plan import Plan, ShiftError, Weight, plan
from mesh.shift.routes import Routes, read
from mesh.shift.wanted import Wanted


@dataclass(frozen=True)
class _Found:
    """A VirtualService: which of its file's documents it is, and its routes."""

    file: Path
    content: bytes
    number: int
    document: Document
    routes: Routes


def shift(folder: Path, model: str, wanted: Wanted, host: str | None = None) -> tuple[Path, Plan]:
    """Make a model's weights in a folder the wanted ones: the file, and what was planned and done.

    Raises OSError, RefusedError for what cannot be read, UnclearError and ShiftError.
    """
    with _alone(folder):
        found = [one for file in resources(folder) for one in _virtual_services(file)]
        whose = choose([one.routes.whose for one in found], model, host)
        (one,) = (each for each in found if each.routes.whose is whose)
        planned = plan(one.routes, model, wanted)
        if planned.changes:
            _replace(one.file, one.content, _shifted(one, planned.changes).encode())
        return one.file, planned


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """While inside, no other shift works on the folder."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def _virtual_services(file: Path) -> Iterator[_Found]:
    content = file.read_bytes()
    for number, document in enumerate(read_documents(_text(content, file), str(file))):
        if document.data.get("kind") == "VirtualService":
            read_resource(document)
            yield _Found(file, content, number, document, read(document.data))


def _text(content: bytes, file: Path) -> str:
    """What a file holds, its ends of lines as they are."""
    try:
        return content.decode()
    except UnicodeDecodeError:
        raise RefusedError([f"{file}: cannot be read: not UTF-8"]) from None


def _shifted(one: _Found, changes: Sequence[Weight]) -> str:
    """The file's new text, in which nothing but the weights is new."""
    before, source = one.content.decode(), str(one.file)
    numbers = {weight.place: weight.new for weight in changes}
    expected = [_own(document.data) for document in read_documents(before, source)]
    _set(expected[one.number], numbers)
    try:
        text = edited(before, one.number, numbers)
        after = read_documents(text, source)
    except (UneditableError, RefusedError) as error:
        raise ShiftError(f"{one.document.position()}: {one.routes.whose.title} cannot be edited: {error}") from None
    if [document.data for document in after] != expected:
        what = "what would change stands for something else, too, by an anchor: write the weights out"
        raise ShiftError(f"{one.document.position()}: {one.routes.whose.title} cannot be edited: {what}")
    read_resource(after[one.number])
    return text


def _own(data: Mapping[str, Any]) -> dict[str, Any]:
    """A copy of which no part is another, as aliases make it."""
    copy: dict[str, Any] = json.loads(json.dumps(data))
    return copy


def _set(data: Any, numbers: Mapping[tuple[str | int, ...], int]) -> None:  # noqa: ANN401 - JSON
    for place, number in numbers.items():
        *steps, last = place
        part = data
        for step in steps:
            part = part[step]
        part[last] = str(number) if isinstance(part.get(last), str) else number


def _replace(file: Path, before: bytes, after: bytes) -> None:
    """Put a new content in a file's place, with its mode, unless someone has changed it. Links are followed."""
    file = file.resolve()
    handle, name = tempfile.mkstemp(prefix=f".{file.name}.", suffix=".new", dir=file.parent)  # no one's YAML
    new = Path(name)
    try:
        with os.fdopen(handle, "wb") as written:
            written.write(after)
            os.fchmod(handle, file.stat().st_mode)
        if file.read_bytes() != before:
            raise ShiftError(f"{file} has been changed meanwhile: look at it, and run the command again")
        new.replace(file)
    finally:
        new.unlink(missing_ok=True)
