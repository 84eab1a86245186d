"""From a description to versions that can serve.

Law: what blocks (files, graphs, a model's code) runs in the lane of the instance that it is for, never on the loop.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from protos import model_config_pb2 as pb
from workers.complete import complete, named
from workers.config import ONNX, Settings, backend_of, settings
from workers.errors import LoadError
from workers.execute import Backend
from workers.lane import Lane
from workers.model import Instance
from workers.python_backend import PythonModel
from workers.repository import Description

if TYPE_CHECKING:  # Python models need no ONNX Runtime
    from workers.onnx_backend import OnnxModel

B = TypeVar("B", bound=Backend)
EXTRA = "install what the worker needs: pip install 'headrace[worker]'"


@dataclass(frozen=True, slots=True)
class Loaded:
    """One version, read: its complete configuration, and its instances."""

    number: int
    config: pb.ModelConfig
    settings: Settings
    instances: tuple[Instance[Backend], ...]


async def load(description: Description) -> list[Loaded]:
    """Every version that the description serves. Raises LoadError, or anything.

    Cancelled, it waits for no thread: what is still being loaded is given back once it is there.
    """
    loaded: list[Loaded] = []
    with ExitStack() as undo:
        for number in description.versions:
            try:
                loaded.append(await _version(description, number, undo))
            except LoadError as error:
                public = f"model '{description.name}' version {number}: {error.public}"
                raise LoadError(public, error.private) from None
        undo.pop_all()
    return loaded


async def _version(description: Description, number: int, undo: ExitStack) -> Loaded:
    onnx = backend_of(description.config, description.name) == ONNX
    return await (_onnx if onnx else _python)(description, number, undo)


async def _python(description: Description, number: int, undo: ExitStack) -> Loaded:
    config = named(description.config, description.name)
    made = settings(config)
    make = partial(_model, description, number, config)
    instances = [await _instance(description, number, make, undo) for _ in range(made.instances)]
    return Loaded(number, config, made, tuple(instances))


async def _onnx(description: Description, number: int, undo: ExitStack) -> Loaded:
    base = named(description.config, description.name)
    asked = settings(base)
    first = await _instance(description, number, partial(_graph, description, number, base, asked), undo)
    model = first.backend
    others = [await _instance(description, number, lambda: model, undo) for _ in range(1, asked.instances)]
    config = complete(description.config, description.name, model.graph)
    group = config.instance_group[0]
    group.kind = pb.ModelInstanceGroup.KIND_GPU if model.cuda else pb.ModelInstanceGroup.KIND_CPU
    if model.cuda and not group.gpus:
        group.gpus.append(0)
    return Loaded(number, config, settings(config), (first, *others))


async def _instance(description: Description, number: int, make: Callable[[], B], undo: ExitStack) -> Instance[B]:
    """An instance whose backend is made in its own lane, and given back there if the load comes to nothing."""
    lane, made = Lane(f"{description.name}-{number}"), list[B]()
    undo.callback(lane.close, lambda: [backend.close() for backend in made])
    await lane.run(lambda: made.append(make()))
    return Instance(made[0], lane)


def _model(description: Description, number: int, config: pb.ModelConfig) -> PythonModel:
    return PythonModel.load(_file(description, number, config), config)


def _graph(description: Description, number: int, config: pb.ModelConfig, asked: Settings) -> OnnxModel:
    # Since 1.29 ONNX Runtime reports models and machines to its makers, unless told otherwise before its import.
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
    try:
        from workers.onnx_backend import OnnxModel  # noqa: PLC0415 - Python models need no ONNX Runtime
    except ImportError as error:
        raise LoadError(f"an ONNX model needs ONNX Runtime; {EXTRA}", str(error)) from None
    return OnnxModel.load(_file(description, number, config), asked.kind, asked.gpu, asked.threads)


def _file(description: Description, number: int, config: pb.ModelConfig) -> Path:
    file = description.folder / str(number) / config.default_model_filename
    if not file.is_file():
        raise LoadError(f"there is no {number}/{file.name}")
    return file
