"""From a description to versions that can serve. Law: it blocks (files, graphs, a model's code): never on the loop."""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from protos import model_config_pb2 as pb
from workers.complete import complete, named
from workers.config import ONNX, Settings, backend_of, settings
from workers.errors import LoadError
from workers.execute import Backend
from workers.python_backend import PythonModel
from workers.repository import Description

EXTRA = "install what the worker needs: pip install 'headrace[worker]'"


@dataclass(frozen=True, slots=True)
class Loaded:
    """One version, read: its complete configuration, and a backend for each instance."""

    number: int
    config: pb.ModelConfig
    settings: Settings
    backends: tuple[Backend, ...]


def load(description: Description) -> list[Loaded]:
    """Every version that the description serves. Raises LoadError."""
    loaded: list[Loaded] = []
    try:
        for number in description.versions:
            loaded.append(_version(description, number))
    except LoadError as error:
        _close([backend for one in loaded for backend in one.backends])
        raise LoadError(f"model '{description.name}' version {number}: {error.public}", error.private) from None
    return loaded


def _version(description: Description, number: int) -> Loaded:
    onnx = backend_of(description.config, description.name) == ONNX
    return _onnx(description, number) if onnx else _python(description, number)


def _python(description: Description, number: int) -> Loaded:
    config = named(description.config, description.name)
    made = settings(config)
    file = _file(description, number, config)
    models: list[PythonModel] = []
    try:
        for _ in range(made.instances):
            models.append(PythonModel.load(file, config))  # noqa: PERF401 - those before a failure must be closed
    except LoadError:
        _close(models)
        raise
    return Loaded(number, config, made, tuple(models))


def _onnx(description: Description, number: int) -> Loaded:
    # Since 1.29 ONNX Runtime reports models and machines to its makers, unless told otherwise before its import.
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
    try:
        from workers.onnx_backend import CUDA, OnnxModel  # noqa: PLC0415 - Python models need no ONNX Runtime
    except ImportError as error:
        raise LoadError(f"an ONNX model needs ONNX Runtime; {EXTRA}", str(error)) from None
    base = named(description.config, description.name)
    asked = settings(base)
    model = OnnxModel.load(_file(description, number, base), asked.kind, asked.gpu, asked.threads)
    config = complete(description.config, description.name, model.graph)
    group = config.instance_group[0]
    cuda = model.provider == CUDA
    group.kind = pb.ModelInstanceGroup.KIND_GPU if cuda else pb.ModelInstanceGroup.KIND_CPU
    if cuda and not group.gpus:
        group.gpus.append(0)
    return Loaded(number, config, settings(config), (model,) * asked.instances)


def _close(backends: Sequence[Backend]) -> None:
    """Give back what was loaded in vain."""
    for backend in backends:
        with suppress(Exception):
            backend.close()


def _file(description: Description, number: int, config: pb.ModelConfig) -> Path:
    file = description.folder / str(number) / config.default_model_filename
    if not file.is_file():
        raise LoadError(f"there is no {number}/{file.name}")
    return file
