"""What a model answered, for scripts and for files. Law: JSON is the Open Inference Protocol's answer over REST."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from headrace.failure import CommandError
from headrace.tensors import Array, Tensor, to_values


@dataclass(frozen=True)
class Reply:
    """The answer to one call: which version gave it, and its outputs."""

    model: str
    version: str
    id: str
    outputs: tuple[Tensor, ...]


def as_json(reply: Reply) -> str:
    """`{"model_name", "model_version", "id", "outputs": [{"name", "datatype", "shape", "data"}]}`, the data flat."""
    outputs = [
        {"name": one.name, "datatype": one.datatype, "shape": list(one.array.shape), "data": to_values(one.array)}
        for one in reply.outputs
    ]
    said = {"model_name": reply.model, "model_version": reply.version, "id": reply.id, "outputs": outputs}
    return json.dumps(said, ensure_ascii=False, allow_nan=False)


def save(path: Path, outputs: Sequence[Tensor]) -> None:
    """As a `.npz` file, by name, or the only one as `.npy`; texts are of dtype S. Raises CommandError."""
    arrays = {one.name: _savable(one.array) for one in outputs}
    try:
        if path.suffix == ".npz":
            with zipfile.ZipFile(path, "w") as archive:
                for name, array in arrays.items():
                    with archive.open(f"{name}.npy", "w", force_zip64=True) as file:
                        np.save(file, array, allow_pickle=False)
        elif path.suffix == ".npy" and len(arrays) == 1:
            with path.open("wb") as file:
                np.save(file, next(iter(arrays.values())), allow_pickle=False)
        else:
            raise CommandError(f"the outputs {', '.join(arrays)} are saved as a .npz file, a single one as .npy")
    except OSError as error:
        raise CommandError(f"{path} cannot be written: {error.strerror}") from None


def shares(tensor: Tensor) -> list[float] | None:
    """What a classifier gives its classes for one input, adding up to 1; None where the output is nothing such."""
    array = tensor.array
    if array.dtype.kind != "f" or array.ndim not in (1, 2) or (array.ndim == 2 and len(array) != 1):
        return None
    found = [float(one) for one in array.ravel()]
    if len(found) > 1 and min(found) >= 0 and abs(sum(found) - 1) < 0.01:
        return found
    return None


def _savable(array: Array) -> Array:
    return array.astype(np.bytes_) if array.dtype.kind == "O" else array
