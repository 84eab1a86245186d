"""What a message asks for.

Law: `read_call` raises nothing but REQUEST_MALFORMED, and reads what the worker will read.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import grpc

from gateway.rpcs import Rpc
from gateway.wire import LENGTH, VARINT, Budget, Extent, Malformed, bytes_field, fields, integer, varint
from mesh.catalog import well_formed_version
from protos.errors import HeadraceError, Reason

_INPUTS, _OUTPUTS = 5, 6  # ModelInferRequest
_PARAMETERS = {_INPUTS: 4, _OUTPUTS: 2}  # InferInputTensor.parameters, InferRequestedOutputTensor.parameters
_SHARED_MEMORY = b"shared_memory_"
PARAMETERS = 4  # ModelInferRequest
_SEQUENCE, _SEQUENCE_END = b"sequence_id", b"sequence_end"
PRIORITY, TIMEOUT = b"priority", b"timeout"
_READ = (_SEQUENCE, _SEQUENCE_END, PRIORITY, TIMEOUT)
_NOTHING = ("", "0")  # no sequence, no end, no priority and no timeout, as Triton has it
_INTEGERS, _TEXT, _UINT64 = (1, 2, 5), 3, 5  # InferParameter: bool, int64 and uint64; string
LONGEST = 1024  # bytes of a name, a version or an id: a caller's word is hashed, quoted and logged


class Call(NamedTuple):
    """One message: the RPC, its bytes, and the few fields the gateway decides by.

    `model`, `version`, `id` and `sequence` are empty where the message names none. `version_field` is where the version
    stands in `body`. `sequence_end` says whether it is its sequence's last call; `shared_memory` whether a tensor is to
    be read from, or written to, memory of the worker's machine; `reaches_server` whether, model or no model, the call
    could change more of a server than that model. `priority` is the level that it asks for (1 is the highest; 0: none),
    and `priority_field` where in `body`; `timed` says whether it tells the worker how long it may queue.
    """

    rpc: Rpc
    body: bytes
    model: str
    version: str
    id: str
    sequence: str
    sequence_end: bool
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
    parameters: dict[bytes, tuple[str, Extent]] = {}
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
        elif infers and number == PARAMETERS:
            _note(parameters, body, Extent(start, end), value, budget)
        elif number == rpc.settings:
            reaches_server = True
    version = strings.get(rpc.version, "")
    if version and not well_formed_version(version):
        raise Malformed("model_version is neither a positive integer nor an alias")
    call = Call(
        rpc,
        body,
        strings.get(rpc.model, ""),
        version,
        strings.get(rpc.id, ""),
        "",
        sequence_end=False,
        version_field=version_field,
        shared_memory=shared_memory,
        reaches_server=reaches_server,
    )
    return _with_parameters(call, parameters) if parameters else call


def _note(parameters: dict[bytes, tuple[str, Extent]], body: bytes, extent: Extent, value: int, budget: Budget) -> None:
    """Add a parameter, its text and where it stands, if it is one that is read."""
    if any(body.find(name, value, extent.end) >= 0 for name in _READ):
        name, text = _parameter(body, value, extent.end, budget)
        if name in parameters:
            raise Malformed(f"the parameter {name.decode()} occurs twice")
        if name in _READ:
            parameters[name] = text, extent


def _with_parameters(call: Call, parameters: Mapping[bytes, tuple[str, Extent]]) -> Call:
    """The call, with what its parameters say that matters here."""
    texts = {name: text for name, (text, _) in parameters.items() if text not in _NOTHING}
    sequence, priority = texts.get(_SEQUENCE, ""), texts.get(PRIORITY, "")
    return call._replace(
        sequence=sequence,
        sequence_end=bool(sequence) and _SEQUENCE_END in texts,
        priority=int(priority) if priority.isdecimal() else 0,
        priority_field=parameters[PRIORITY][1] if PRIORITY in parameters else None,
        timed=TIMEOUT in texts,
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


def _parameter(body: bytes, start: int, end: int, budget: Budget) -> tuple[bytes, str]:
    """The name and the text of a parameter of the request (a map's entry, `body[start:end]`)."""
    key, parameter = b"", (end, end)
    for number, inner_type, _, value, value_end in fields(body, start, end, budget):
        if number == 1 and inner_type == LENGTH:
            key = body[value:value_end]
        elif number == 2 and inner_type == LENGTH:
            parameter = (value, value_end)
    text = ""
    for number, inner_type, _, value, value_end in fields(body, *parameter, budget):
        if number in _INTEGERS and inner_type == VARINT:
            text = str(integer(body, value, value_end))
        elif number == _TEXT:
            text = _string(body, number, inner_type, value, value_end)
    return key, text


def number_parameter(name: bytes, value: int) -> bytes:
    """A parameter of a ModelInferRequest (an entry of its map), as bytes that can stand anywhere in one."""
    worth = varint(_UINT64 << 3 | VARINT) + varint(value)
    return bytes_field(PARAMETERS, bytes_field(1, name) + bytes_field(2, worth))


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
