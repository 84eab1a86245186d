"""Tensors on the wire and in memory. Law: bytes become an array only where datatype, shape and byte count agree.

Memory is numpy: BYTES is an array of dtype object that holds `bytes`, BF16 is `ml_dtypes.bfloat16`, the others are
numpy's own. The wire is little-endian and row-major; a BYTES element is its length as uint32, then itself. Arrays that
come from raw contents are read-only. No shape or count costs more than the limits below, and no error quotes more.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Final

import numpy as np
import numpy.typing as npt

from protos import grpc_service_pb2 as pb
from workers.errors import malformed

try:
    import ml_dtypes

    _BF16 = {"BF16": np.dtype(ml_dtypes.bfloat16)}
except ImportError:  # without the worker extra: Python models of other datatypes still run
    _BF16 = {}

Array = npt.NDArray[np.generic]

DTYPES: Final[dict[str, np.dtype[np.generic]]] = {
    "BOOL": np.dtype(np.bool_),
    "UINT8": np.dtype(np.uint8),
    "UINT16": np.dtype("<u2"),
    "UINT32": np.dtype("<u4"),
    "UINT64": np.dtype("<u8"),
    "INT8": np.dtype(np.int8),
    "INT16": np.dtype("<i2"),
    "INT32": np.dtype("<i4"),
    "INT64": np.dtype("<i8"),
    "FP16": np.dtype("<f2"),
    "FP32": np.dtype("<f4"),
    "FP64": np.dtype("<f8"),
    "BYTES": np.dtype(np.object_),
    **_BF16,
}
_CONTENTS: Final = {
    "BOOL": "bool_contents",
    **dict.fromkeys(("INT8", "INT16", "INT32"), "int_contents"),
    "INT64": "int64_contents",
    **dict.fromkeys(("UINT8", "UINT16", "UINT32"), "uint_contents"),
    "UINT64": "uint64_contents",
    "FP32": "fp32_contents",
    "FP64": "fp64_contents",
    "BYTES": "bytes_contents",
}
_LENGTH: Final = struct.Struct("<I")
_MOST_SIZES: Final = 32  # numpy's own bound before 2.0
_MOST_ELEMENTS: Final = 1 << 31  # bytes that a protobuf message may have
_MOST_ACROSS_NONE: Final = 1 << 24  # other sizes of an empty tensor, multiplied: a model may reduce over the size of 0
_MOST_STRINGS: Final = 1 << 20  # elements of a BYTES tensor; each is a Python object
_STEP: Final = 1 << 16  # typed values converted at a time, between which other threads run
_WIDEST: Final = {"i": np.int64, "u": np.uint64}  # by a dtype's kind
_SHOWN_TEXT: Final = 200  # characters
_SHOWN_SIZES: Final = 16


def from_raw(name: str, datatype: str, shape: Sequence[int], raw: bytes) -> Array:
    """The array that raw contents hold. Raises REQUEST_MALFORMED that names the input."""
    dtype = _dtype(name, datatype)
    count = _elements(name, datatype, shape)
    if datatype == "BYTES":
        return _objects(_split(name, raw, count), shape)
    if len(raw) != count * dtype.itemsize:
        raise malformed(
            f"input '{name}' has {len(raw)} bytes; {datatype} of shape {shown(shape)} is {count * dtype.itemsize}"
        )
    if datatype == "BOOL":
        truth: Array = np.frombuffer(raw, np.uint8) != 0  # a byte that is neither 0 nor 1 is true
        return truth.reshape(shape)
    return np.frombuffer(raw, dtype).reshape(shape)


def from_contents(name: str, datatype: str, shape: Sequence[int], contents: pb.InferTensorContents) -> Array:
    """The array that typed contents hold. Raises REQUEST_MALFORMED that names the input."""
    dtype = _dtype(name, datatype)
    count = _elements(name, datatype, shape)
    wanted = _CONTENTS.get(datatype)
    if wanted is None:
        raise malformed(f"input '{name}' is {datatype}, which has no typed contents; send raw_input_contents")
    for field, _ in contents.ListFields():
        if field.name != wanted:
            raise malformed(f"input '{name}' is {datatype}, whose contents are in {wanted}, not in {field.name}")
    values = getattr(contents, wanted)
    if len(values) != count:
        raise malformed(f"input '{name}' has {len(values)} elements; its shape {shown(shape)} has {count}")
    if datatype == "BYTES":
        return _objects(list(values), shape)
    array = np.empty(count, dtype)
    for at in range(0, count, _STEP):
        some = np.array(values[at : at + _STEP], _WIDEST.get(dtype.kind))
        if dtype.kind in _WIDEST and not _within(some, dtype):  # numpy before 2 would make it fit
            raise malformed(f"input '{name}' has an element out of the range of {datatype}")
        array[at : at + _STEP] = some
    return array.reshape(shape)


def _within(some: Array, dtype: np.dtype[np.generic]) -> bool:
    limits = np.iinfo(dtype.name)
    return bool(limits.min <= some.min() and some.max() <= limits.max)


def to_raw(array: Array, datatype: str) -> bytes:
    """The raw contents of an array of the datatype's dtype; a BYTES element may be `str`, which is sent as UTF-8."""
    if datatype != "BYTES":
        return np.ascontiguousarray(array, DTYPES[datatype]).tobytes()
    parts: list[bytes] = []
    for element in array.ravel().tolist():
        encoded = element.encode() if isinstance(element, str) else bytes(element)
        parts += (_LENGTH.pack(len(encoded)), encoded)
    return b"".join(parts)


def quoted(text: str) -> str:
    """A caller's text for an error: in quotes, its first 200 characters."""
    return f"'{text}'" if len(text) <= _SHOWN_TEXT else f"'{text[:_SHOWN_TEXT]}...'"


def shown(shape: Sequence[int]) -> str:
    """A caller's shape for an error: its first 16 sizes."""
    more = ", ..." if len(shape) > _SHOWN_SIZES else ""
    return f"[{', '.join(str(size) for size in shape[:_SHOWN_SIZES])}{more}]"


def _dtype(name: str, datatype: str) -> np.dtype[np.generic]:
    dtype = DTYPES.get(datatype)
    if dtype is None:
        raise malformed(f"input '{name}' has the unknown datatype {quoted(datatype)}")
    return dtype


def _elements(name: str, datatype: str, shape: Sequence[int]) -> int:
    if len(shape) > _MOST_SIZES:
        raise malformed(f"input '{name}' has a shape of {len(shape)} sizes; {_MOST_SIZES} are the most")
    if any(size < 0 for size in shape):
        raise malformed(f"input '{name}' has the shape {shown(shape)}; no size may be negative")
    most = _MOST_ACROSS_NONE if 0 in shape else _MOST_STRINGS if datatype == "BYTES" else _MOST_ELEMENTS
    across = 1
    for size in shape:
        across *= size or 1  # numpy, too, multiplies the sizes beside a 0
        if across > most:
            raise malformed(f"input '{name}' has the shape {shown(shape)}; {most} elements are the most")
    return 0 if 0 in shape else across


def _objects(values: Sequence[bytes], shape: Sequence[int]) -> Array:
    return np.fromiter(values, np.dtype(np.object_), len(values)).reshape(shape)


def _split(name: str, raw: bytes, count: int) -> list[bytes]:
    """The elements of raw BYTES contents: at most `count` are looked for, and none where the bytes are too few."""
    elements: list[bytes] = []
    at = 0
    if len(raw) >= count * _LENGTH.size:
        try:
            for _ in range(count):
                start = at + _LENGTH.size
                at = start + _LENGTH.unpack_from(raw, at)[0]
                elements.append(raw[start:at])
        except struct.error:  # an element ends behind the contents
            at = -1
    if len(elements) != count or at != len(raw):
        raise malformed(f"input '{name}' has BYTES contents whose lengths do not add up to {count} elements")
    return elements
