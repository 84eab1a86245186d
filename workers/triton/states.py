"""Implicit state of sequences (`sequence_batching.state`), which Triton's python backend does not keep.

Law: a state belongs to one sequence, from its start to its end, in the instance that Triton has given the sequence to.
Triton brings the first one (zeros, or what `initial_state` says); later ones are kept here, and forgotten once Triton
has forgotten their sequence (`max_sequence_idle_microseconds`).
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from protos import model_config_pb2 as pb
from workers.tensors import Array

_START: Final = 1  # TRITONSERVER_REQUEST_FLAG_SEQUENCE_START
_END: Final = 2
_IDLE: Final = 1.0  # seconds, Triton's own where the configuration says nothing


@dataclass(slots=True)
class _Held:
    arrays: dict[str, Array]
    at: float


@dataclass(slots=True)
class States:
    """The states of the sequences that one instance has: by the output that gives one, the input that takes it."""

    inputs: Mapping[str, str]
    idle: float
    _held: dict[object, _Held] = field(default_factory=dict)

    @classmethod
    def of(cls, config: pb.ModelConfig) -> States:
        """As a configuration describes them; none where it describes none."""
        batching = config.sequence_batching
        pairs = {state.output_name: state.input_name for state in batching.state}
        return cls(pairs, batching.max_sequence_idle_microseconds / 1e6 or _IDLE)

    @property
    def outputs(self) -> tuple[str, ...]:
        """The outputs that are states."""
        return tuple(self.inputs)

    def of_request(self, request: Any) -> Mapping[str, Array]:  # noqa: ANN401 - Triton's
        """The states that the request's sequence has come to, by the inputs that take them."""
        held = self._held.get(request.correlation_id()) if self.inputs and not request.flags() & _START else None
        return held.arrays if held else {}

    def keep(self, request: Any, outputs: Mapping[str, Array]) -> None:  # noqa: ANN401 - Triton's
        """Take up what the request has made of its sequence's states."""
        if not self.inputs:
            return
        now, sequence = time.monotonic(), request.correlation_id()
        for old in [key for key, held in self._held.items() if now - held.at > 2 * self.idle]:
            del self._held[old]
        self._held.pop(sequence, None)
        if not request.flags() & _END:
            self._held[sequence] = _Held({taken: outputs[given] for given, taken in self.inputs.items()}, now)
