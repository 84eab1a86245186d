"""Versions that keep a state for each sequence. Law: what a model sees of a sequence is what that sequence has sent it.

Each request runs alone, on the state that its sequence has, with signals of its place in it.
"""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import replace

import numpy as np
from opentelemetry.trace import SpanContext

from protos import grpc_service_pb2 as pb
from protos import model_config_pb2
from workers.config import Settings
from workers.errors import malformed
from workers.execute import Backend
from workers.model import Answer, Asked, BatchedVersion, Instance
from workers.sequence_config import Control, State
from workers.sequences import Place, Sequences, place_of
from workers.statistics import Counted
from workers.tensors import DTYPES, Array


class SequenceVersion(BatchedVersion):
    """A version of a model with `sequence_batching`."""

    def __init__(
        self,
        number: int,
        config: model_config_pb2.ModelConfig,
        settings: Settings,
        instances: Sequence[Instance[Backend]],
        queue: int,
        counted: Counted,
    ) -> None:
        super().__init__(number, config, settings, instances, queue, counted)
        if settings.sequences is None:
            raise ValueError(f"model {settings.name} has no sequences")
        self._lead = (1,) if settings.max_batch_size else ()
        self._states = settings.sequences.states
        self._controls = settings.sequences.controls
        initial = {state.input: self._zeros(state) for state in self._states}
        self._sequences = Sequences(settings.name, settings.sequences.idle, initial, time.monotonic)

    async def answers(
        self, request: pb.ModelInferRequest, remaining: float | None, span: SpanContext
    ) -> AsyncGenerator[Answer, None]:
        """The one answer, once its sequence has been through with what came before."""
        began = time.monotonic_ns()
        place = place_of(request, self.name)
        controls = {control.input: self._signal(control, place) for control in self._controls}
        async with self._sequences.turn(place) as sequence:
            work = await self._read(request)
            if work.batch != 1:
                raise malformed(
                    f"inference request to model '{self.name}' must specify batch-size 1 due to requirements of "
                    "sequence batcher"
                )
            inputs = {**work.inputs, **controls, **sequence.state}
            stateful = replace(work, inputs=inputs, kept=tuple(state.output for state in self._states))
            waited = (time.monotonic_ns() - began) / 1e9
            left = None if remaining is None else remaining - waited
            done = await self._done(Asked(stateful, span), self._within(request, left), began)
            sequence.state = {state.input: self._next(state, done.kept) for state in self._states}
        yield Answer(done.response, final=True, batch=done.ran.batch, queued=done.queued / 1e9, ran=done.ran)

    def _zeros(self, state: State) -> Array:
        zeros = np.zeros((*self._lead, *state.initial), DTYPES[state.datatype])
        zeros.flags.writeable = False  # every sequence begins with them
        return zeros

    def _next(self, state: State, outputs: Mapping[str, Array]) -> Array:
        """The state that an execution has left. Raises ValueError: it is not what `config.pbtxt` says."""
        array = outputs[state.output]
        dims = (*self._lead, *state.dims)
        fits = len(dims) == array.ndim and all(want in (-1, size) for want, size in zip(dims, array.shape, strict=True))
        if not fits or array.dtype != DTYPES[state.datatype]:
            raise ValueError(f"the state '{state.output}' is {array.dtype} of the shape {array.shape}")
        return array

    def _signal(self, control: Control, place: Place) -> Array:
        shape = (*self._lead, 1)
        dtype = DTYPES[control.datatype]
        if control.kind != "CORRID":
            said = {"START": place.starts, "END": place.ends, "READY": True}[control.kind]
            return np.full(shape, control.values[said], dtype)
        if control.datatype == "BYTES":
            return np.full(shape, str(place.id).encode(), dtype)
        if isinstance(place.id, str):
            raise malformed(f"model '{self.name}' takes an integer as sequence_id")
        number = np.uint64(place.id % 2**64)
        return np.full(shape, number, np.uint64).astype(dtype)  # its lower bits, where there are fewer, as in Triton
