"""Tensors as a model takes and gives them. Law: what goes out has the model's datatype and shape.

Memory is numpy as tritonclient has it: BYTES is an array of `bytes` (dtype object), BF16 is `ml_dtypes.bfloat16`, the
others are numpy's own.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from tritonclient.utils import deserialize_bytes_tensor, triton_to_np_dtype

from headrace.failure import CommandError
from protos import grpc_service_pb2 as pb

Array = npt.NDArray[Any]
Pixels = npt.NDArray[np.float32]
Message = pb.ModelInferResponse.InferOutputTensor | pb.ModelInferRequest.InferInputTensor

# What JSON has for each kind of numpy's datatypes.
_JSON: Final[dict[str, set[type]]] = {"b": {bool}, "i": {int}, "u": {int}, "f": {int, float}, "O": {str, bytes}}
_CONTENTS: Final = (
    *("bool_contents", "int_contents", "int64_contents", "uint_contents", "uint64_contents"),
    *("fp32_contents", "fp64_contents", "bytes_contents"),
)


@dataclass(frozen=True)
class Wanted:
    """An input as the model's metadata tells it; a size of -1 is any."""

    name: str
    datatype: str
    shape: tuple[int, ...]

    def __str__(self) -> str:
        return f"{self.name} ({self.datatype} {list(self.shape)})"


@dataclass(frozen=True)
class Tensor:
    """An input to send, or an output that came; the array's dtype is the datatype's."""

    name: str
    datatype: str
    array: Array


def of_values(values: object, wanted: Wanted, where: str) -> Tensor:
    """The input that JSON values are: nested lists of numbers, truths or texts. Raises CommandError."""
    array = np.array(values, np.object_)
    elements = array.ravel().tolist()
    dtype = dtype_of(wanted)
    if any(isinstance(one, list) for one in elements):
        raise CommandError(f"{where}: lists that are beside each other must be of one length, for {wanted}")
    kind = "f" if wanted.datatype == "BF16" else dtype.kind
    if strange := {type(one) for one in elements} - _JSON[kind]:
        named = ", ".join(sorted(_named(one) for one in strange))
        raise CommandError(f"{where} holds {named}, which is nothing for {wanted}")
    if kind == "O":
        texts = [one.encode() if isinstance(one, str) else one for one in elements]
        return _fitted(np.fromiter(texts, np.object_, len(texts)).reshape(array.shape), wanted, where)
    if kind in "iu" and elements:
        least, most = np.iinfo(dtype).min, np.iinfo(dtype).max
        if min(elements) < least or max(elements) > most:
            raise CommandError(f"{where} holds numbers that are not from {least} to {most}, for {wanted}")
    return _fitted(_as_floats(array, dtype, wanted, where) if kind == "f" else array.astype(dtype), wanted, where)


def of_array(array: Array, wanted: Wanted, where: str) -> Tensor:
    """The input that a numpy array is; texts may be of dtype S or U. Raises CommandError."""
    dtype = dtype_of(wanted)
    if dtype.kind == "O" and array.dtype.kind in "SU":
        return of_values(array.tolist(), wanted, where)
    if wanted.datatype == "BF16" and array.dtype == np.dtype("V2"):
        array = array.view(dtype)  # numpy's files have no name for it
    if array.dtype.newbyteorder("=") != dtype:
        raise CommandError(f"{where} holds {array.dtype}, but {wanted} takes {_written(dtype)}: use .astype()")
    return _fitted(array.astype(dtype, copy=False), wanted, where)


def of_text(text: str, wanted: Wanted, where: str) -> Tensor:
    """The input of one element that a text is. Raises CommandError."""
    if wanted.datatype != "BYTES":
        raise CommandError(f"{where} is text, which is nothing for {wanted}")
    return _fitted(np.full((1,) * len(wanted.shape), text.encode(), np.object_), wanted, where)


def of_messages(tensors: Sequence[Message], raw: Sequence[bytes]) -> list[Tensor]:
    """Tensors as the protocol has them, all contents raw, or typed. Raises ValueError: they do not fit a shape."""
    contents: Sequence[bytes | None] = raw or [None] * len(tensors)
    return [_of_message(one, some) for one, some in zip(tensors, contents, strict=True)]


def _of_message(tensor: Message, raw: bytes | None) -> Tensor:
    if tensor.datatype == "BYTES":
        values = tensor.contents.bytes_contents if raw is None else _texts(raw)
        array = np.fromiter(values, np.object_, len(values))
    elif (dtype := triton_to_np_dtype(tensor.datatype)) is None:
        raise ValueError(f"{tensor.datatype} is no datatype")
    elif raw is None:
        array = np.array([one for field in _CONTENTS for one in getattr(tensor.contents, field)], dtype)
    else:
        array = np.frombuffer(raw, dtype)
    return Tensor(tensor.name, tensor.datatype, array.reshape(tuple(tensor.shape)))


def _texts(raw: bytes) -> list[bytes]:
    try:
        return list(deserialize_bytes_tensor(raw).tolist())
    except struct.error as error:
        raise ValueError(str(error)) from None


def to_values(array: Array) -> list[Any]:
    """The elements in row-major order, as JSON has them: a text for bytes, None for what is no number."""
    if array.dtype.kind == "O":
        return [one.decode(errors="replace") for one in array.ravel().tolist()]
    if array.dtype.kind in "biu":
        return list(array.ravel().tolist())
    floats = array.ravel().astype(np.float64 if array.dtype.itemsize == 8 else np.float32)
    return [float(str(one)) if np.isfinite(one) else None for one in floats]  # the shortest that says the same


def dtype_of(wanted: Wanted) -> np.dtype[Any]:
    """What numpy has for the input's datatype. Raises CommandError."""
    dtype = triton_to_np_dtype(wanted.datatype)
    if dtype is None:
        raise CommandError(f"the input {wanted} has a datatype that this headrace does not know")
    return np.dtype(dtype)


def _as_floats(array: Array, dtype: np.dtype[Any], wanted: Wanted, where: str) -> Array:
    wide = array.astype(np.float64)
    with np.errstate(over="ignore"):
        made: Array = wide.astype(dtype)
    if np.any(np.isinf(made.astype(np.float64)) & np.isfinite(wide)):
        raise CommandError(f"{where} holds numbers that are too large for {wanted}")
    return made


def _fitted(array: Array, wanted: Wanted, where: str) -> Tensor:
    """The array in the shape that is wanted; a batch of one is made where only the batch lacks."""
    for shape in (array.shape, (1, *array.shape)):
        if _fits(shape, wanted.shape):
            return Tensor(wanted.name, wanted.datatype, np.ascontiguousarray(array).reshape(shape))
    raise CommandError(f"{where} has the shape {list(array.shape)}, which does not fit {wanted}")


def _fits(shape: Sequence[int], wanted: Sequence[int]) -> bool:
    return len(shape) == len(wanted) and all(other in (-1, size) for size, other in zip(shape, wanted, strict=True))


def _written(dtype: np.dtype[Any]) -> str:
    return "texts" if dtype.kind == "O" else f"numpy's {dtype}"


def _named(kind: type) -> str:
    names = {bool: "true or false", int: "numbers", float: "numbers with fractions", str: "texts", dict: "objects"}
    return names.get(kind, "null")
