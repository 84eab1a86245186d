"""What a model is sent, from files. Law: a file is read as its name says, and what fits no input is told.

`.npy` and `.npz` are numpy's, `.txt` is one text, `.json` and `-`, standard input, are JSON (headrace.json_inputs); all
others are pictures.
"""

from __future__ import annotations

import sys
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np

from headrace import json_inputs
from headrace.failure import CommandError, extra
from headrace.tensors import Array, Tensor, Wanted, of_array, of_text
from headrace.wants import Wants

_STDIN: Final = "-"


def tensors(wants: Wants, files: Sequence[str], text: str | None = None) -> list[Tensor]:
    """What the files (`FILE`, or `NAME=FILE`) and the text are to the model's inputs. Raises CommandError."""
    found: dict[str, Tensor] = {}
    named = [_named(one, wants) for one in files]
    for one, file in sorted(named, key=lambda pair: pair[0] is None):  # those without a name take what is left
        _put(found, _read(_File(file, one, wants), found))
    if text is not None:
        texts = Wants(wants.model, tuple(one for one in wants.inputs if one.datatype == "BYTES"))
        _put(found, [of_text(text, texts.only(found, "the text"), "the text")])
    return list(found.values())


def _put(found: dict[str, Tensor], more: Iterator[Tensor] | Sequence[Tensor]) -> None:
    for tensor in more:
        if tensor.name in found:
            raise CommandError(f"the input {tensor.name} is given twice: once is enough")
        found[tensor.name] = tensor


@dataclass(frozen=True)
class _File:
    """A file, and the input that it is for, if that was said."""

    path: str
    named: Wanted | None
    wants: Wants

    def wanted(self, found: Mapping[str, Tensor]) -> Wanted:
        """The input that it is for: what was said, or the only one that is left."""
        return self.named or self.wants.only(found, self.path)


def _named(argument: str, wants: Wants) -> tuple[Wanted | None, str]:
    """The input that an argument names, if it does, and the file."""
    name, equals, file = argument.partition("=")
    if equals and (any(one.name == name for one in wants.inputs) or not Path(argument).exists()):
        return wants.called(name, argument), file
    return None, argument


def _read(file: _File, found: Mapping[str, Tensor]) -> Iterator[Tensor]:
    """The tensors of a file."""
    path = file.path
    match Path(path).suffix.lower():
        case ".npy":
            yield of_array(_loaded(path), file.wanted(found), path)
        case ".npz":
            for name, array in _archived(path).items():
                yield of_array(array, file.wants.called(name, path), f"{name} in {path}")
        case ".txt":
            yield of_text(_text(path), file.wanted(found), path)
        case ".json":
            yield from json_inputs.read(_text(path), file.wants, _wanted(file, found), path)
        case _ if path == _STDIN:
            yield from json_inputs.read(sys.stdin.read(), file.wants, _wanted(file, found), "standard input")
        case _:
            with extra("demo", "a picture"):
                from headrace import pictures  # noqa: PLC0415 - Pillow
            wanted = file.wanted(found)
            yield of_array(pictures.read(Path(path), wanted), wanted, path)


def _wanted(file: _File, found: Mapping[str, Tensor]) -> Callable[[], Wanted]:
    return lambda: file.wanted(found)


def _loaded(path: str) -> Array:
    loaded = _numpy(path)
    if isinstance(loaded, np.ndarray):
        return loaded
    raise CommandError(f"{path} holds several arrays: call it .npz")


def _archived(path: str) -> Mapping[str, Array]:
    loaded = _numpy(path)
    if isinstance(loaded, np.ndarray):
        raise CommandError(f"{path} holds one array: call it .npy")
    return loaded


def _numpy(path: str) -> Array | Mapping[str, Array]:
    try:
        loaded = np.load(path, allow_pickle=False)
        return loaded if isinstance(loaded, np.ndarray) else dict(loaded)
    except OSError as error:
        raise CommandError(f"{path} cannot be read: {error.strerror or error}") from None
    except (ValueError, EOFError, zipfile.BadZipFile):
        raise CommandError(f"{path} is no array that can be read: write it with numpy.save, without pickle") from None


def _text(path: str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8")
    except OSError as error:
        raise CommandError(f"{path} cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise CommandError(f"{path} is no text in UTF-8") from None
