"""A ModelInferRequest against what the model takes. Law: what passes here fits the model; the rest is refused.

A shape is judged before anything is worked out from it, so that a request costs what the model's own inputs cost. A
value that Triton would cut short (an INT8 of 300) is refused.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from protos import grpc_service_pb2 as pb
from workers.config import Settings, Tensor
from workers.errors import malformed, not_here
from workers.tensors import Array, from_contents, from_raw, quoted, shown

Signature = tuple[tuple[str, tuple[int, ...]], ...]


@dataclass(frozen=True, slots=True, eq=False)
class Work:
    """What one request asks of a model.

    `inputs` have the shapes that the model sees, batch dimension first where the model has one; `outputs` are the names
    asked for, in the order of the answer; `batch` is the size of the request's own batch, 1 where the model has none;
    `kept` are outputs that stay here. Where there are such, it runs alone.
    """

    inputs: Mapping[str, Array]
    outputs: tuple[str, ...]
    batch: int
    kept: tuple[str, ...] = ()

    @property
    def signature(self) -> Signature:
        """Equal for requests that can share a batch: the inputs' names and their shapes without the batch."""
        return tuple(sorted((name, array.shape[1:]) for name, array in self.inputs.items()))


def read_request(request: pb.ModelInferRequest, settings: Settings) -> Work:
    """The work that the request asks for. Raises HeadraceError."""
    known = {tensor.name: tensor for tensor in settings.inputs}
    raw = request.raw_input_contents
    if raw and len(raw) != len(request.inputs):
        raise malformed(f"{len(request.inputs)} inputs but {len(raw)} raw_input_contents")
    batched = settings.max_batch_size > 0
    inputs: dict[str, Array] = {}
    for at, given in enumerate(request.inputs):
        tensor = known.get(given.name)
        if tensor is None:
            raise malformed(f"model '{settings.name}' has no input {quoted(given.name)}")
        if given.name in inputs:
            raise malformed(f"input '{given.name}' is given twice")
        inputs[given.name] = _read_input(given, tensor, raw[at] if raw else None, batched=batched)
    missing = [tensor.name for tensor in settings.inputs if not tensor.optional and tensor.name not in inputs]
    if missing:
        raise malformed(f"model '{settings.name}' needs the input '{missing[0]}'")
    batch = _batch(inputs, settings) if batched else 1
    seen = {name: _as_seen(known[name], array, lead=int(batched)) for name, array in inputs.items()}
    return Work(seen, _outputs(request, settings), batch)


def _read_input(
    given: pb.ModelInferRequest.InferInputTensor, tensor: Tensor, raw: bytes | None, *, batched: bool
) -> Array:
    if any(key.startswith("shared_memory_") for key in given.parameters):
        raise not_here("this worker does not serve shared memory")
    if given.datatype != tensor.datatype:
        raise malformed(f"input '{given.name}' is {tensor.datatype}, not {quoted(given.datatype)}")
    shape = _shape(given.shape, tensor, batched=batched)
    if raw is None:
        return from_contents(tensor.name, tensor.datatype, shape, given.contents)
    if given.HasField("contents"):
        raise malformed(f"input '{given.name}' has contents, but the request has raw_input_contents")
    return from_raw(tensor.name, tensor.datatype, shape, raw)


def _shape(given: Sequence[int], tensor: Tensor, *, batched: bool) -> tuple[int, ...]:
    """The shape, where it is one that the model takes."""
    if batched and not given:
        raise malformed(f"input '{tensor.name}' has no shape, but the model wants a batch dimension")
    wanted = (-1, *tensor.dims) if batched else tensor.dims
    if len(given) != len(wanted) or any(want not in (-1, size) for want, size in zip(wanted, given, strict=True)):
        raise malformed(f"input '{tensor.name}' has the shape {shown(given)}; the model takes {list(wanted)}")
    return tuple(given)


def _batch(inputs: Mapping[str, Array], settings: Settings) -> int:
    sizes = {array.shape[0] for array in inputs.values()}
    if len(sizes) > 1:
        raise malformed(f"the inputs have batches of different sizes: {sorted(sizes)}")
    batch = sizes.pop() if sizes else 1
    if not 1 <= batch <= settings.max_batch_size:
        raise malformed(f"a batch of {batch} was asked for; it must be between 1 and {settings.max_batch_size}")
    return batch


def _as_seen(tensor: Tensor, array: Array, *, lead: int) -> Array:
    """The array in the shape that the model sees; the first `lead` sizes stay."""
    if tensor.reshape is None:
        return array
    return array.reshape((*array.shape[:lead], *reshaped(tensor.dims, tensor.reshape, array.shape[lead:])))


def reshaped(before: tuple[int, ...], after: tuple[int, ...], shape: tuple[int, ...]) -> tuple[int, ...]:
    """A shape that fits the dims `before`, moved to the dims `after`; variable sizes keep their order."""
    varying = iter(size for want, size in zip(before, shape, strict=True) if want == -1)
    return tuple(next(varying) if want == -1 else want for want in after)


def _outputs(request: pb.ModelInferRequest, settings: Settings) -> tuple[str, ...]:
    known = tuple(tensor.name for tensor in settings.outputs)
    if not request.outputs:
        return known
    asked: list[str] = []
    for output in request.outputs:
        if output.name not in known:
            raise malformed(f"model '{settings.name}' has no output {quoted(output.name)}")
        if output.name in asked:
            raise malformed(f"output '{output.name}' is asked for twice")
        if "classification" in output.parameters:
            raise malformed("this worker does not serve the classification extension")
        if any(key.startswith("shared_memory_") for key in output.parameters):
            raise not_here("this worker does not serve shared memory")
        asked.append(output.name)
    return tuple(asked)
