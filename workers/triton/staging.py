"""A repository that Triton can serve, made of another. Law: the original is read and never written to.

Most models are folders of links to their files, so that what Python leaves beside code stays here. Those for which the
server has no backend of its own, but our worker has, get a folder in which Triton's python backend runs them
(`workers.triton.hosted`):

- of the backend onnxruntime, where the server lacks it; their configuration, completed from the graph;
- of the backend python, written for our worker (`class Model`, see `workers.python_backend`).
"""

from __future__ import annotations

import ast
import os
import shutil
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from google.protobuf import text_format

import workers
from protos import model_config_pb2 as pb
from protos.names import VERSION
from workers.complete import described, named
from workers.config import FILENAMES, ONNX, PLATFORMS, PYTHON, set_fields
from workers.errors import LoadError
from workers.loading import EXTRA
from workers.repository import choose, names

_CONFIG: Final = "config.pbtxt"
_HOSTS: Final = {ONNX: "OnnxHost", PYTHON: "PythonHost"}
# What it needs is imported once it is wanted: Triton imports the file for nothing, too, to complete configurations.
# Triton's stub heeds no PYTHONPATH.
_HOST: Final = '''"""Written by `headrace triton`: Triton's python backend runs {file}."""

import sys


def TritonPythonModel():
    sys.path.insert(0, {packages!r})
    from workers.triton.hosted import {host}

    return {host}({file!r})
'''
_PACKAGES: Final = str(Path(workers.__file__).resolve().parent.parent)
_OF_ONNX_RUNTIME: Final = (
    "optimization.execution_accelerators",
    "optimization.graph",
    "model_operations",
    "batch_input",
)
_THREADS: Final = frozenset({"intra_op_thread_count", "inter_op_thread_count"})


@dataclass(slots=True)
class Stage:
    """The staged repository: `folder`, of `repository`, for a server with these backends."""

    repository: Path
    folder: Path
    backends: Collection[str]
    _seen: dict[str, object] = field(default_factory=dict)

    def renew(self) -> Iterator[LoadError]:
        """Take up what has changed; yields what is wrong with models that are new, and left as they were. Blocks."""
        there = names(self.repository)
        for name in self._seen.keys() - set(there):
            _away(self.folder / name)
            del self._seen[name]
        for name in there:
            seen = _seen(self.repository / name)
            if self._seen.get(name) != seen:
                self._seen[name] = seen
                try:
                    self._put(name)
                except LoadError as error:
                    yield error

    def rate_limited(self) -> bool:
        """Whether a model's configuration has something to say to the rate limiter."""
        return any(
            group.HasField("rate_limiter")
            for name in self._seen
            for group in _written(self.repository / name, name).instance_group
        )

    def _put(self, name: str) -> None:
        source, made = self.repository / name, self.folder / name
        beside = self.folder.parent / f"new-{name}"
        _away(beside)
        backend = hosted(source, name, self.backends)
        if backend is None:
            _mirror(source, beside)
        else:
            host(source, name, backend, beside)
        _away(made)
        beside.rename(made)


def hosted(source: Path, name: str, backends: Collection[str]) -> str | None:
    """The backend of ours that is to run the model, None where it is Triton's own to run. Raises LoadError."""
    written = _written(source, name)
    backend = written.backend or (ONNX if written.platform == PLATFORMS[ONNX] else "")
    filename = written.default_model_filename
    if not backend and not written.platform and _files(source, filename or FILENAMES[ONNX]):
        backend = ONNX
    if backend == PYTHON and any(map(_for_worker, _files(source, filename or FILENAMES[PYTHON]))):
        return PYTHON
    if backend == ONNX and ONNX not in backends:
        return ONNX
    if backend and backend not in backends:
        has = ", ".join(sorted(backends))
        raise LoadError(f"model '{name}' asks for the backend {backend}, which this Triton lacks (it has {has})")
    return None


def host(source: Path, name: str, backend: str, made: Path) -> None:
    """Write the folder by which Triton's python backend runs the model with ours. Raises LoadError."""
    config = staged(source, name, backend)
    filename = config.default_model_filename
    config.backend, config.platform, config.default_model_filename = PYTHON, "", FILENAMES[PYTHON]
    made.mkdir(parents=True)
    (made / _CONFIG).write_text(text_format.MessageToString(config), encoding="utf-8")
    for entry in source.iterdir():
        if VERSION.fullmatch(entry.name) and entry.is_dir():
            (made / entry.name).mkdir()
            file = str((entry / filename).resolve())
            (made / entry.name / FILENAMES[PYTHON]).write_text(
                _HOST.format(host=_HOSTS[backend], file=file, packages=_PACKAGES)
            )
        elif entry.name != _CONFIG:  # labels
            (made / entry.name).symlink_to(entry.resolve())


def staged(source: Path, name: str, backend: str) -> pb.ModelConfig:
    """The model's configuration, whole, as its own backend would have it. Raises LoadError."""
    written = _written(source, name)
    if backend == PYTHON:
        return named(written, name)
    for path in set_fields(written):
        if path.startswith(_OF_ONNX_RUNTIME):
            raise LoadError(f"config.pbtxt of model '{name}' sets {path}, which only Triton's own {ONNX} backend knows")
    for key in written.parameters:
        if key not in _THREADS:
            raise LoadError(f"config.pbtxt of model '{name}' sets the parameter {key}, which is not implemented here")
    if written.input and written.output:
        return named(written, name)
    versions = {int(entry.name) for entry in source.iterdir() if VERSION.fullmatch(entry.name) and entry.is_dir()}
    latest = choose(written.version_policy, versions, name)[-1]
    file = source / str(latest) / (written.default_model_filename or FILENAMES[ONNX])
    if not file.is_file():
        raise LoadError(f"model '{name}' version {latest}: there is no {latest}/{file.name}")
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
    try:
        from workers.onnx_backend import OnnxModel  # noqa: PLC0415 - ONNX Runtime is an extra's
    except ImportError as error:
        raise LoadError(f"an ONNX model needs ONNX Runtime; {EXTRA}", str(error)) from None
    try:
        return described(written, name, OnnxModel.load(file, "KIND_CPU", None, (1, 1)).graph)
    except LoadError as error:
        raise LoadError(f"model '{name}' version {latest}: {error.public}", error.private) from None


def _written(source: Path, name: str) -> pb.ModelConfig:
    """The configuration as it is written. Raises LoadError."""
    file = source / _CONFIG
    try:
        text = file.read_text(encoding="utf-8") if file.exists() else ""
    except (OSError, UnicodeDecodeError):
        raise LoadError(f"{_CONFIG} of model '{name}' cannot be read as UTF-8 text") from None
    try:
        return text_format.Parse(text, pb.ModelConfig())
    except text_format.ParseError as error:
        raise LoadError(f"{_CONFIG} of model '{name}' cannot be read: {error}") from None


def _files(source: Path, filename: str) -> list[Path]:
    """The model's file in each version that has it."""
    versions = [entry for entry in source.iterdir() if VERSION.fullmatch(entry.name)]
    return [entry / filename for entry in versions if (entry / filename).is_file()]


def _for_worker(file: Path) -> bool:
    """Whether a model's code is written for our worker: it has the class `Model`, and not Triton's."""
    try:
        classes = {node.name for node in ast.parse(file.read_bytes()).body if isinstance(node, ast.ClassDef)}
    except (SyntaxError, ValueError, OSError):
        return False  # Triton will say what is wrong with it
    return "Model" in classes and "TritonPythonModel" not in classes


def _files_of(source: Path) -> Iterator[Path]:
    """Every file of a model, but for what Python has left there."""
    for folder, inner, files in os.walk(source.resolve()):
        inner[:] = sorted(name for name in inner if name != "__pycache__")
        yield from (Path(folder) / name for name in sorted(files))


def _seen(source: Path) -> object:
    """What changes when the folder does: names and times of its files."""
    return [(str(file), file.stat().st_mtime_ns) for file in _files_of(source) if file.exists()]


def _mirror(source: Path, made: Path) -> None:
    """A folder like the other, of links to its files."""
    made.mkdir()
    for file in _files_of(source):
        link = made / file.relative_to(source.resolve())
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(file)


def _away(made: Path) -> None:
    shutil.rmtree(made, ignore_errors=True)
