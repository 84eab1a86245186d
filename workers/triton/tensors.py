"""Tensors between Triton's python backend and numpy. Law: each crosses with its bytes unchanged.

The backend gives out BF16 by DLPack alone, which numpy does not take; there its memory is read and written directly
(https://dmlc.github.io/dlpack/latest/c_api.html).
"""

from __future__ import annotations

import ctypes
import math
from typing import Any, Final

import numpy as np
import triton_python_backend_utils as triton  # beside the stub

from workers.tensors import DTYPES, Array

_NAME: Final = b"dltensor"
_CPU: Final = 1  # kDLCPU
_BFLOAT: Final = 4  # kDLBfloat


class _Tensor(ctypes.Structure):
    """DLTensor, and the rest of DLManagedTensor."""

    _fields_ = (
        ("data", ctypes.c_void_p),
        ("device_type", ctypes.c_int32),
        ("device_id", ctypes.c_int32),
        ("ndim", ctypes.c_int32),
        ("code", ctypes.c_uint8),
        ("bits", ctypes.c_uint8),
        ("lanes", ctypes.c_uint16),
        ("shape", ctypes.POINTER(ctypes.c_int64)),
        ("strides", ctypes.POINTER(ctypes.c_int64)),
        ("byte_offset", ctypes.c_uint64),
        ("manager", ctypes.c_void_p),
        ("deleter", ctypes.c_void_p),
    )


_Deleter = ctypes.CFUNCTYPE(None, ctypes.c_void_p)
_pointer = ctypes.pythonapi.PyCapsule_GetPointer
_pointer.restype, _pointer.argtypes = ctypes.c_void_p, (ctypes.py_object, ctypes.c_char_p)
_capsule = ctypes.pythonapi.PyCapsule_New
_capsule.restype, _capsule.argtypes = ctypes.py_object, (ctypes.c_void_p, ctypes.c_char_p, ctypes.c_void_p)

_lent: dict[int, tuple[object, ...]] = {}  # what Triton still reads, by the address of its description


def array(tensor: Any, datatype: str) -> Array:  # noqa: ANN401 - Triton's
    """A tensor of a request."""
    if datatype != "BF16":
        plain: Array = tensor.as_numpy()
        return plain
    shape, dtype = tuple(tensor.shape()), DTYPES[datatype]
    if 0 in shape:
        return np.empty(shape, dtype)
    capsule = tensor.to_dlpack()
    given = _Tensor.from_address(_pointer(capsule, _NAME))
    raw = ctypes.string_at(given.data + given.byte_offset, math.prod(shape) * dtype.itemsize)
    return np.frombuffer(raw, dtype).reshape(shape)


def tensor(name: str, array: Array, datatype: str) -> Any:  # noqa: ANN401 - Triton's
    """A tensor of an answer. Raises ValueError where the array is not of the datatype."""
    if array.dtype != DTYPES[datatype] and datatype != "BYTES":
        raise ValueError(f"output '{name}' has the dtype {array.dtype}, not {datatype}")
    if datatype == "BYTES":
        return triton.Tensor(name, np.array(array, np.object_))
    array = np.ascontiguousarray(array)
    return triton.Tensor.from_dlpack(name, _lend(array)) if datatype == "BF16" else triton.Tensor(name, array)


def _lend(array: Array) -> object:
    """A capsule by which Triton reads the array."""
    shape = (ctypes.c_int64 * array.ndim)(*array.shape)
    lent = _Tensor(array.ctypes.data, _CPU, 0, array.ndim, _BFLOAT, 16, 1, shape, None, 0, None, _give_back_address)
    _lent[ctypes.addressof(lent)] = (lent, shape, array)
    return _capsule(ctypes.addressof(lent), _NAME, None)


def _give_back(address: int) -> None:
    _lent.pop(address, None)


_taken_back = _Deleter(_give_back)  # which must stay
_give_back_address: Final = ctypes.cast(_taken_back, ctypes.c_void_p)
