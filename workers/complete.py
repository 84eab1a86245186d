"""A configuration completed from the ONNX graph. Law: what is written is never changed, only what is missing is added.

It follows Triton's auto-complete for ONNX Runtime, so that the same folder means the same here and there: where inputs
or outputs are not described they come from the graph; where all of them begin with a variable dimension that is the
batch, of at most 4 unless `max_batch_size` says otherwise, and requests are batched.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from protos import model_config_pb2 as pb
from workers.config import FILENAMES, PLATFORMS, PYTHON, backend_of, check
from workers.datatypes import DATATYPES, TYPES
from workers.errors import LoadError
from workers.sequence_config import hidden

DEFAULT_MAX_BATCH_SIZE: Final = 4


@dataclass(frozen=True, slots=True)
class Port:
    """An input or output of a graph: `dims` with the batch dimension, -1 where variable.

    `datatype` is the protocol's (FP32, BYTES, ...), or what ONNX Runtime calls a type that the protocol has not.
    """

    name: str
    datatype: str
    dims: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Graph:
    """The signature of an ONNX graph."""

    inputs: tuple[Port, ...]
    outputs: tuple[Port, ...]


def named(written: pb.ModelConfig, name: str) -> pb.ModelConfig:
    """A copy with the name, the backend and the file that a missing line stands for."""
    made = pb.ModelConfig()
    made.CopyFrom(written)
    made.name = name
    made.backend = backend_of(written, name)
    made.platform = PLATFORMS[made.backend]
    made.default_model_filename = written.default_model_filename or FILENAMES[made.backend]
    if not made.HasField("version_policy"):
        made.version_policy.latest.num_versions = 1
    if not made.instance_group:
        made.instance_group.add()
    group = made.instance_group[0]
    group.name = group.name or f"{name}_0"
    group.count = group.count or 1
    if made.backend == PYTHON:
        group.kind = pb.ModelInstanceGroup.KIND_CPU
    return made


def complete(written: pb.ModelConfig, name: str, graph: Graph) -> pb.ModelConfig:
    """The whole configuration of an ONNX model. Raises LoadError where it contradicts the graph."""
    made = described(written, name, graph)
    check(made, name)
    agree(made, graph)
    return made


def described(written: pb.ModelConfig, name: str, graph: Graph) -> pb.ModelConfig:
    """A copy that says what the graph does where nothing was written. Raises LoadError."""
    made = named(written, name)
    if not (made.input and made.output):
        _batch(made, graph)
        ours = {(side, port.name) for side, port in hidden(made)}
        if not made.input:
            inputs = (port for port in graph.inputs if ("input", port.name) not in ours)
            made.input.extend(_input(port, batched=made.max_batch_size > 0) for port in inputs)
        if not made.output:
            outputs = (port for port in graph.outputs if ("output", port.name) not in ours)
            made.output.extend(_output(port, batched=made.max_batch_size > 0) for port in outputs)
    return made


def _batch(config: pb.ModelConfig, graph: Graph) -> None:
    if all(port.dims[:1] == (-1,) for port in (*graph.inputs, *graph.outputs)):
        config.max_batch_size = config.max_batch_size or DEFAULT_MAX_BATCH_SIZE
        if config.max_batch_size > 1 and config.WhichOneof("scheduling_choice") is None:
            config.dynamic_batching.SetInParent()


def _dims(port: Port, *, batched: bool) -> tuple[tuple[int, ...], pb.ModelTensorReshape | None]:
    """The port's dims for a configuration, which cannot be empty: then they are [1], reshaped to none."""
    dims = port.dims[1:] if batched else port.dims
    if dims:
        return dims, None
    return (1,), pb.ModelTensorReshape()


def _type(port: Port) -> pb.DataType:
    if port.datatype not in TYPES:
        raise LoadError(f"'{port.name}' of the graph is a {port.datatype}, which the protocol cannot carry")
    return TYPES[port.datatype]


def _input(port: Port, *, batched: bool) -> pb.ModelInput:
    dims, reshape = _dims(port, batched=batched)
    return pb.ModelInput(name=port.name, data_type=_type(port), dims=dims, reshape=reshape)


def _output(port: Port, *, batched: bool) -> pb.ModelOutput:
    dims, reshape = _dims(port, batched=batched)
    return pb.ModelOutput(name=port.name, data_type=_type(port), dims=dims, reshape=reshape)


def agree(config: pb.ModelConfig, graph: Graph) -> None:
    """Hold the described inputs and outputs to the graph's. Raises LoadError."""
    where = f"config.pbtxt of model '{config.name}'"
    described: list[tuple[str, pb.ModelInput | pb.ModelOutput]] = [("input", one) for one in config.input]
    described += [("output", one) for one in config.output]
    described += hidden(config)
    missing = {port.name for port in graph.inputs} - {one.name for side, one in described if side == "input"}
    if missing:
        raise LoadError(f"{where} leaves out the graph's input '{min(missing)}'")
    ports = {("input", port.name): port for port in graph.inputs}
    ports |= {("output", port.name): port for port in graph.outputs}
    for side, one in described:
        port = ports.get((side, one.name))
        if port is None:
            raise LoadError(f"{where} describes an {side} '{one.name}', which the graph does not have")
        if one.data_type != _type(port):
            raise LoadError(f"{where} says {side} '{one.name}' is {DATATYPES[one.data_type]}; it is {port.datatype}")
        dims = tuple(one.reshape.shape) if one.HasField("reshape") else tuple(one.dims)
        if config.max_batch_size > 0:
            if port.dims[:1] != (-1,):
                raise LoadError(f"{where} sets max_batch_size, but {side} '{one.name}' has no variable first dimension")
            dims = (-1, *dims)
        if not _fits(dims, port.dims):
            raise LoadError(
                f"{where} gives {side} '{one.name}' the shape {list(dims)}, batch included; it is {list(port.dims)}"
            )


def _fits(described: tuple[int, ...], real: tuple[int, ...]) -> bool:
    return len(described) == len(real) and all(
        ours == theirs or -1 in (ours, theirs) for ours, theirs in zip(described, real, strict=True)
    )
