"""ONNX models. Law: ONNX Runtime is called here alone.

Its Python binding takes strings as `str` and does not give out bfloat16; both are bridged here.
"""

from __future__ import annotations

import ctypes
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

import numpy as np
import onnxruntime

from workers.complete import Graph, Port
from workers.errors import LoadError, malformed
from workers.reading import Work
from workers.tensors import DTYPES, Array

CUDA: Final = "CUDAExecutionProvider"
CPU: Final = "CPUExecutionProvider"
_BFLOAT16: Final = 16  # onnx.TensorProto.BFLOAT16
_TYPES: Final = {
    "bool": "BOOL",
    **{f"uint{bits}": f"UINT{bits}" for bits in (8, 16, 32, 64)},
    **{f"int{bits}": f"INT{bits}" for bits in (8, 16, 32, 64)},
    "float16": "FP16",
    "float": "FP32",
    "double": "FP64",
    "string": "BYTES",
    "bfloat16": "BF16",
}

Provider = tuple[str, dict[str, str]]


def providers(available: Sequence[str], kind: str, gpu: int | None) -> tuple[Provider, ...]:
    """What runs the graph, best first: CUDA where there is one and `kind` (KIND_AUTO, KIND_GPU, KIND_CPU) lets it.

    Raises LoadError where KIND_GPU or a GPU's number is asked for and there is no CUDA provider.
    """
    cpu: Provider = (CPU, {})
    if kind == "KIND_CPU":
        return (cpu,)
    if CUDA in available:
        return (CUDA, {"device_id": str(gpu or 0)}), cpu
    if kind == "KIND_GPU" or gpu is not None:
        raise LoadError(
            "instance_group asks for a GPU, but this ONNX Runtime has no CUDA: install onnxruntime-gpu, or ask for "
            "KIND_AUTO or KIND_CPU"
        )
    return (cpu,)


class OnnxModel:
    """One graph in one session. ONNX Runtime's sessions may run in several threads at once."""

    def __init__(self, session: onnxruntime.InferenceSession) -> None:
        self._session = session
        self.graph = Graph(_ports(session.get_inputs()), _ports(session.get_outputs()))
        self.provider = str(session.get_providers()[0])
        self.cuda = self.provider == CUDA
        self._bfloat = any(port.datatype == "BF16" for port in (*self.graph.inputs, *self.graph.outputs))
        self._strings = frozenset(port.name for port in self.graph.inputs if port.datatype == "BYTES")

    @classmethod
    def load(cls, file: Path, kind: str, gpu: int | None, threads: tuple[int, int]) -> OnnxModel:
        """Read a graph. Raises LoadError."""
        chosen = providers(onnxruntime.get_available_providers(), kind, gpu)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads, options.inter_op_num_threads = threads
        options.log_severity_level = 3
        try:
            session = onnxruntime.InferenceSession(str(file), options, providers=list(chosen))
        except Exception as error:  # noqa: BLE001 - its exceptions share no base
            raise LoadError(f"ONNX Runtime cannot read {file.name}", " ".join(str(error).split())) from None
        made = cls(session)
        if kind == "KIND_GPU" and not made.cuda:  # ONNX Runtime goes on with the CPU and merely warns
            raise LoadError("instance_group asks for a GPU, but CUDA did not start: see ONNX Runtime's warning above")
        return made

    def admit(self, work: Work) -> Work:
        """The work with its strings as ONNX Runtime takes them. Raises REQUEST_MALFORMED."""
        if self._strings.isdisjoint(work.inputs):
            return work
        inputs = {name: _text(name, array) if name in self._strings else array for name, array in work.inputs.items()}
        return Work(inputs, work.outputs, work.batch)

    def infer(self, inputs: Mapping[str, Array], outputs: Sequence[str]) -> dict[str, Array]:
        """Run the graph. Raises what ONNX Runtime raises."""
        if not self._bfloat:
            return dict(zip(outputs, self._session.run(list(outputs), dict(inputs)), strict=True))
        values = self._session.run_with_ort_values(list(outputs), {name: _value(one) for name, one in inputs.items()})
        return {name: _array(value) for name, value in zip(outputs, values, strict=True)}

    def close(self) -> None:
        """Nothing to do: the session goes with its last user."""


def _ports(nodes: Sequence[onnxruntime.NodeArg]) -> tuple[Port, ...]:
    return tuple(
        Port(
            node.name,
            _datatype(node.type),
            tuple(size if isinstance(size, int) and size >= 0 else -1 for size in node.shape),
        )
        for node in nodes
    )


def _datatype(onnx_type: str) -> str:
    """`tensor(float)` -> `FP32`; a type that the protocol has not stays as it is."""
    inner = onnx_type.removeprefix("tensor(").removesuffix(")")
    return _TYPES.get(inner, onnx_type)


def _text(name: str, array: Array) -> Array:
    try:
        text = [element.decode() for element in array.ravel().tolist()]
    except UnicodeDecodeError:
        raise malformed(f"input '{name}' has an element that is no UTF-8, which ONNX Runtime cannot take") from None
    made = np.empty(len(text), np.object_)
    made[:] = text
    return made.reshape(array.shape)


def _value(array: Array) -> onnxruntime.OrtValue:
    array = np.ascontiguousarray(array)
    if array.dtype == DTYPES["BF16"]:
        return onnxruntime.OrtValue.ortvalue_from_numpy_with_onnx_type(array.view(np.uint16), _BFLOAT16)
    return onnxruntime.OrtValue.ortvalue_from_numpy(array)


def _array(value: onnxruntime.OrtValue) -> Array:
    if value.element_type() != _BFLOAT16:
        array: Array = value.numpy()
        return array
    shape = tuple(value.shape())
    dtype = DTYPES["BF16"]
    return np.frombuffer(ctypes.string_at(value.data_ptr(), math.prod(shape) * dtype.itemsize), dtype).reshape(shape)
