"""One execution of a model, from arrays to answers. Law: it runs in an instance's thread and touches nothing else."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from itertools import accumulate
from typing import NamedTuple, Protocol

import numpy as np

from protos import grpc_service_pb2 as pb
from workers.config import Settings
from workers.reading import Work, reshaped
from workers.statistics import Times
from workers.tensors import DTYPES, Array, to_raw


class Backend(Protocol):
    """What runs a model: one class for each kind."""

    @property
    def provider(self) -> str:
        """What computes: an ONNX Runtime execution provider, or `python`."""

    def admit(self, work: Work) -> Work:
        """The work as the backend takes it. Raises REQUEST_MALFORMED. May be called in any thread."""

    def infer(self, inputs: Mapping[str, Array], outputs: Sequence[str]) -> dict[str, Array]:
        """Run once; blocks. Raises anything."""

    def close(self) -> None:
        """Give back what is held."""


class Execution(NamedTuple):
    """What came of it: an answer for each work, when it began (monotonic ns) and how long its parts took.

    `kept` holds the outputs that stay here.
    """

    answers: list[pb.ModelInferResponse]
    began: int
    times: Times
    kept: Mapping[str, Array]


def execute(backend: Backend, settings: Settings, works: Sequence[Work]) -> Execution:
    """Run works of equal signature together. Raises what the model raises, ValueError for outputs that do not fit."""
    began = time.monotonic_ns()
    inputs = together([work.inputs for work in works])
    wanted = tuple(dict.fromkeys(name for work in works for name in (*work.outputs, *work.kept)))
    ready = time.monotonic_ns()
    outputs = backend.infer(inputs, wanted)
    inferred = time.monotonic_ns()
    parts = split(outputs, works)
    answers = [answer(settings, part, work.outputs, work.batch) for part, work in zip(parts, works, strict=True)]
    ended = time.monotonic_ns()
    kept = {name: outputs[name] for name in works[0].kept}
    return Execution(answers, began, Times(ready - began, inferred - ready, ended - inferred), kept)


def answer(settings: Settings, arrays: Mapping[str, Array], names: Sequence[str], batch: int) -> pb.ModelInferResponse:
    """The outputs on the wire, always raw. Raises ValueError where an array is not what `config.pbtxt` says."""
    made = pb.ModelInferResponse()
    known = {tensor.name: tensor for tensor in settings.outputs}
    for name in names:
        tensor, array = known[name], arrays[name]
        if tensor.datatype != "BYTES" and array.dtype != DTYPES[tensor.datatype]:
            raise ValueError(f"output '{name}' has the dtype {array.dtype}, not {tensor.datatype}")
        shape = array.shape
        if settings.max_batch_size and shape[:1] != (batch,):
            raise ValueError(f"output '{name}' has the shape {shape} for a batch of {batch}")
        if tensor.reshape is not None:
            lead = shape[:1] if settings.max_batch_size else ()
            shape = (*lead, *reshaped(tensor.reshape, tensor.dims, shape[len(lead) :]))
        made.outputs.add(name=name, datatype=tensor.datatype, shape=shape)
        made.raw_output_contents.append(to_raw(array, tensor.datatype))
    return made


def together(each: Sequence[Mapping[str, Array]]) -> Mapping[str, Array]:
    """Inputs of equal signature as one batch."""
    if len(each) == 1:
        return each[0]
    return {name: np.concatenate([inputs[name] for inputs in each]) for name in each[0]}


def split(outputs: Mapping[str, Array], works: Sequence[Work]) -> Sequence[Mapping[str, Array]]:
    """The outputs of works that were run together, for each of them.

    Raises ValueError: the model's batch is another, and no part of it is surely anybody's.
    """
    if len(works) == 1:
        return [outputs]
    total = sum(work.batch for work in works)
    for name, array in outputs.items():
        if array.shape[:1] != (total,):
            raise ValueError(f"output '{name}' has the shape {array.shape} for a batch of {total}")
    ends = accumulate(work.batch for work in works)
    return [
        {name: outputs[name][end - work.batch : end] for name in work.outputs}
        for work, end in zip(works, ends, strict=True)
    ]
