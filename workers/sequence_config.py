"""`sequence_batching` of a configuration. Law: what it says of states and controls is what the model gets, or refused.

A model of sequences gets, besides a caller's inputs, the state that its sequence has (`state`: an output of one request
is an input of the next), and signals of where in its sequence a request is (`control_input`). Which requests Triton
runs together (`direct`, `oldest`) changes no result: here each runs alone.
https://github.com/triton-inference-server/server/blob/main/docs/user_guide/implicit_state_management.md
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from protos import model_config_pb2 as pb
from workers.datatypes import DATATYPES, TYPES

FIELD: Final = "sequence_batching"
IMPLEMENTED: Final = frozenset(
    {
        f"{FIELD}.max_sequence_idle_microseconds",
        *(f"{FIELD}.state.{field}" for field in ("input_name", "output_name", "data_type", "dims")),
        *(f"{FIELD}.state.initial_state.{field}" for field in ("name", "data_type", "dims", "zero_data")),
        f"{FIELD}.control_input.name",
        *(
            f"{FIELD}.control_input.control.{field}"
            for field in ("kind", "data_type", "int32_false_true", "fp32_false_true", "bool_false_true")
        ),
    }
)
HARMLESS: Final = frozenset(
    {
        f"{FIELD}.oldest.max_candidate_sequences",
        *(f"{FIELD}.state.{field}" for field in ("use_same_buffer_for_input_output", "use_growable_memory")),
    }
)
CONTAINERS: Final = frozenset({FIELD, *(f"{FIELD}.{field}" for field in ("direct", "oldest", "control_input.control"))})

_IDLE: Final = 1.0  # seconds, Triton's own
_KIND: Final = pb.ModelSequenceBatching.Control.Kind
_VALUES: Final = {"int32_false_true": "INT32", "fp32_false_true": "FP32", "bool_false_true": "BOOL"}
_IDS: Final = ("INT32", "INT64", "UINT32", "UINT64", "BYTES")


@dataclass(frozen=True, slots=True)
class State:
    """A tensor that goes from a request's output to the next one's input; at first it is zeros, of the shape `initial`.

    `dims` are without the batch dimension, -1 where variable.
    """

    input: str
    output: str
    datatype: str
    dims: tuple[int, ...]
    initial: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Control:
    """An input that says where in its sequence a request is: `values` are false and true; of an id there are none.

    `kind` is START, READY, END or CORRID.
    """

    input: str
    kind: str
    datatype: str
    values: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Sequences:
    """How a model's sequences are kept; one that is silent for `idle` seconds is forgotten."""

    idle: float
    states: tuple[State, ...]
    controls: tuple[Control, ...]


def sequences(config: pb.ModelConfig) -> Sequences | None:
    """What the checked configuration says of sequences; None where the model has none."""
    if not config.HasField(FIELD):
        return None
    asked = config.sequence_batching
    return Sequences(
        asked.max_sequence_idle_microseconds / 1e6 or _IDLE,
        tuple(_state(state, DATATYPES[state.data_type]) for state in asked.state),
        tuple(_control(given.name, control) for given in asked.control_input for control in given.control),
    )


def _state(state: pb.ModelSequenceBatching.State, datatype: str) -> State:
    dims = tuple(state.dims)
    initial = tuple(state.initial_state[0].dims) if state.initial_state else tuple(abs(size) for size in dims)
    return State(state.input_name, state.output_name, datatype, dims, initial)


def _control(name: str, control: pb.ModelSequenceBatching.Control) -> Control:
    kind = _KIND.Name(control.kind).removeprefix("CONTROL_SEQUENCE_")
    if kind == "CORRID":
        return Control(name, kind, DATATYPES[control.data_type], ())
    values = next(getattr(control, field) for field in _VALUES if getattr(control, field))
    return Control(name, kind, _datatype(control), tuple(values))


def _datatype(control: pb.ModelSequenceBatching.Control) -> str:
    return next(datatype for field, datatype in _VALUES.items() if getattr(control, field))


def hidden(config: pb.ModelConfig) -> Iterator[tuple[str, pb.ModelInput | pb.ModelOutput]]:
    """What of the model's inputs and outputs is not the callers': (`input` or `output`, what it must be)."""
    asked = config.sequence_batching
    for state in asked.state:
        yield "input", pb.ModelInput(name=state.input_name, data_type=state.data_type, dims=state.dims)
        yield "output", pb.ModelOutput(name=state.output_name, data_type=state.data_type, dims=state.dims)
    for given in asked.control_input:
        for control in given.control:
            of_id = control.kind == _KIND.CONTROL_SEQUENCE_CORRID
            datatype = control.data_type if of_id else TYPES[_datatype(control)]
            yield "input", pb.ModelInput(name=given.name, data_type=datatype, dims=[1])


def problems(config: pb.ModelConfig) -> Iterator[str]:
    """What of it contradicts itself, or the rest of the configuration."""
    asked = config.sequence_batching
    if config.model_transaction_policy.decoupled:
        yield f"{FIELD} of a decoupled model is not implemented"
    taken = [port.name for port in config.input]
    for name in (*(state.input_name for state in asked.state), *(given.name for given in asked.control_input)):
        if not name or name in taken:
            yield f"{FIELD} needs an input of its own for each state and control, and '{name}' is none"
        taken.append(name)
    for state in asked.state:
        yield from _state_problems(state)
    for given in asked.control_input:
        if len(given.control) != 1:
            yield f"the control_input '{given.name}' must have one control"
        for control in given.control:
            yield from _control_problems(given.name, control)


def _state_problems(state: pb.ModelSequenceBatching.State) -> Iterator[str]:
    name = state.input_name
    if not state.output_name:
        yield f"the state '{name}' has no output_name"
    if DATATYPES.get(state.data_type, "BYTES") == "BYTES":
        yield f"the state '{name}' needs a data_type, which may not be TYPE_STRING"
    if not state.dims or any(size < -1 or size == 0 for size in state.dims):
        yield f"the dims of the state '{name}' must be sizes, or -1 where a size varies"
    if len(state.initial_state) > 1:
        yield f"the state '{name}' has more than one initial_state"
    for initial in state.initial_state:
        fits = len(initial.dims) == len(state.dims) and all(
            size >= 0 and want in (-1, size) for size, want in zip(initial.dims, state.dims, strict=True)
        )
        if not (fits and initial.zero_data and initial.data_type == state.data_type):
            yield f"the initial_state of '{name}' must be zero_data of the state's data_type and dims"


def _control_problems(name: str, control: pb.ModelSequenceBatching.Control) -> Iterator[str]:
    if control.kind == _KIND.CONTROL_SEQUENCE_CORRID:
        if DATATYPES.get(control.data_type) not in _IDS:
            yield f"the control_input '{name}' gets a sequence's id: its data_type must be an integer's or TYPE_STRING"
    elif [len(getattr(control, field)) for field in _VALUES if getattr(control, field)] != [2]:
        yield f"the control_input '{name}' must say what is false and what is true, in one datatype"
