"""What a message asks for.

Law: `read_call` raises nothing but REQUEST_MALFORMED, and reads what the worker will read.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import grpc

from gateway.rpcs import Rpc
from gateway.wire import LENGTH, VARINT, Budget, Extent, Malformed, bytes_field, fields, integer, string_field
from mesh.catalog import well_formed_version
from protos.errors import HeadraceError, Reason
from protos.varint import varint

_INPUTS, _OUTPUTS = 5, 6  # ModelInferRequest
_PARAMETERS = {_INPUTS: 4, _OUTPUTS: 2}  # InferInputTensor.parameters, InferRequestedOutputTensor.parameters
_SHARED_MEMORY = b"shared_memory_"
_REQUEST_PARAMETERS = 4  # ModelInferRequest
SEQUENCE, _SEQUENCE_START, _SEQUENCE_END = b"sequence_id", b"sequence_start", b"sequence_end"
PRIORITY, TIMEOUT = b"priority", b"timeout"
_READ = (SEQUENCE, _SEQUENCE_START, _SEQUENCE_END, PRIORITY, TIMEOUT)
_NOTHING = (("", False), ("", True), ("0", False))  # no sequence, start, end, priority or timeout, as Triton has it
_INTEGERS, _TEXT, _INT64 = (1, 2, 5), 3, 2  # InferParameter: bool, int64 and uint64; string
LONGEST = 1024  # bytes of a name, a version or an id: a caller's word is hashed, quoted and logged


class InSequence(NamedTuple):
    """A call's place in a sequence: of which `id` (`text`: a string, and no integer), and whether first or last in it.

    `field` is where the id stands in the message.
    """

    id: str
    text: bool
    starts: bool
    ends: bool
    field: Extent


class Call(NamedTuple):
    """One message: the RPC, its bytes, and the few fields the gateway decides by.

    `model`, `version` and `id` are empty, `sequence` is None where the message names none. `version_field` is where the
    version stands in `body`. `shared_memory` says whether a tensor is to be read from, or written to, memory of the
    worker's machine; `reaches_server` whether, model or no model, the call could change more of a server than that
    model. `priority` is the level that it asks for (1 is the highest; 0: none), and `priority_field` where in `body`;
    `timed` says whether it tells the worker how long it may queue.
    """

    rpc: Rpc
    body: bytes
    model: str
    version: str
    id: str
    sequence: InSequence | None
    version_field: Extent | None
    shared_memory: bool
    reaches_server: bool
    priority: int = 0
    priority_field: Extent | None = None
    timed: bool = False


def read_call(rpc: Rpc, body: bytes) -> Call:
    """The call that `body` makes. Raises HeadraceError REQUEST_MALFORMED."""
    try:
        return _read(rpc, body)
    except Malformed as error:
        raise malformed(f"the message cannot be read: {error}") from None


def malformed(public: str) -> HeadraceError:
    """The answer to what cannot be read."""
    return HeadraceError(grpc.StatusCode.INVALID_ARGUMENT, Reason.REQUEST_MALFORMED, public)


def _read(rpc: Rpc, body: bytes) -> Call:
    strings: dict[int, str] = {}
    version_field: Extent | None = None
    parameters: dict[bytes, _Parameter] = {}
    shared_memory = False
    reaches_server = False
    wanted = (rpc.model, rpc.version, rpc.id)
    infers = rpc.id != 0
    budget = Budget()
    for number, wire_type, start, value, end in fields(body, budget=budget):
        if number in wanted:
            if number in strings:
                raise Malformed(f"field {number} occurs twice")
            strings[number] = _string(body, number, wire_type, value, end)
            if number == rpc.version:
                version_field = Extent(start, end)
        elif infers and number in _PARAMETERS and not shared_memory:
            if wire_type != LENGTH:
                raise Malformed(f"field {number} is no tensor")
            shared_memory = _names_shared_memory(body, number, value, end, budget)
        elif infers and number == _REQUEST_PARAMETERS:
            _note(parameters, body, Extent(start, end), value, budget)
        elif number == rpc.settings:
            reaches_server = True
    version = strings.get(rpc.version, "")
    if version and not well_formed_version(version):
        raise Malformed("model_version is neither a positive integer nor an alias")
    model, call_id = strings.get(rpc.model, ""), strings.get(rpc.id, "")
    call = Call(rpc, body, model, version, call_id, None, version_field, shared_memory, reaches_server)
    return _with_parameters(call, parameters) if parameters else call


class _Parameter(NamedTuple):
    """What a parameter says, whether that is text, and where it stands."""

    value: str
    text: bool
    field: Extent

    def __bool__(self) -> bool:
        return (self.value, self.text) not in _NOTHING


def _note(parameters: dict[bytes, _Parameter], body: bytes, extent: Extent, value: int, budget: Budget) -> None:
    """Add a parameter, if it is one that is read."""
    if not any(body.find(name, value, extent.end) >= 0 for name in _READ):
        return
    name, said, text = _parameter(body, value, extent.end, budget)
    if name in parameters:
        raise Malformed(f"the parameter {name.decode()} occurs twice")
    if name in _READ:
        parameters[name] = _Parameter(said, text, extent)


def _with_parameters(call: Call, parameters: Mapping[bytes, _Parameter]) -> Call:
    """The call, with what its parameters say that matters here."""
    sequence, priority = parameters.get(SEQUENCE), parameters.get(PRIORITY)
    starts, ends, timed = (bool(parameters.get(name)) for name in (_SEQUENCE_START, _SEQUENCE_END, TIMEOUT))
    return call._replace(
        sequence=InSequence(sequence.value, sequence.text, starts, ends, sequence.field) if sequence else None,
        priority=int(priority.value) if priority and priority.value.isdecimal() else 0,
        priority_field=None if priority is None else priority.field,
        timed=timed,
    )


def _string(body: bytes, number: int, wire_type: int, value: int, end: int) -> str:
    if wire_type != LENGTH:
        raise Malformed(f"field {number} is no string")
    if end - value > LONGEST:
        raise Malformed(f"field {number} is longer than {LONGEST} bytes")
    try:
        return body[value:end].decode()
    except UnicodeDecodeError:
        raise Malformed(f"field {number} is no UTF-8") from None


def _parameter(body: bytes, start: int, end: int, budget: Budget) -> tuple[bytes, str, bool]:
    """The name and the value of a parameter of the request (`body[start:end]`), and whether that is text."""
    key, parameter = b"", (end, end)
    for number, inner_type, _, value, value_end in fields(body, start, end, budget):
        if number == 1 and inner_type == LENGTH:
            key = body[value:value_end]
        elif number == 2 and inner_type == LENGTH:
            if parameter != (end, end):
                raise Malformed("a parameter has two values")  # of which parsers make one
            parameter = (value, value_end)
    said, text = "", False
    for number, inner_type, _, value, value_end in fields(body, *parameter, budget):
        if number in _INTEGERS and inner_type == VARINT:
            said, text = str(integer(body, value, value_end)), False
        elif number == _TEXT:
            said, text = _string(body, number, inner_type, value, value_end), True
    return key, said, text


def parameter(name: bytes, value: int | str) -> bytes:
    """A parameter of a ModelInferRequest, numbers as int64 like Triton's, as bytes that can stand anywhere in one."""
    worth = string_field(_TEXT, value) if isinstance(value, str) else varint(_INT64 << 3 | VARINT) + varint(value)
    return bytes_field(_REQUEST_PARAMETERS, bytes_field(1, name) + bytes_field(2, worth))


def _names_shared_memory(body: bytes, tensor: int, start: int, end: int, budget: Budget) -> bool:
    """Whether one of the parameters of the tensor (`body[start:end]`) has a key that begins with `shared_memory_`."""
    if body.find(_SHARED_MEMORY, start, end) < 0:  # the usual case, at the speed of memchr
        return False
    return any(
        body.startswith(_SHARED_MEMORY, key, key_end)
        for number, wire_type, _, value, value_end in fields(body, start, end, budget)
        if number == _PARAMETERS[tensor] and wire_type == LENGTH
        for key_number, key_type, _, key, key_end in fields(body, value, value_end, budget)
        if key_number == 1 and key_type == LENGTH
    )
