"""What a message asks for, and that the worker reads the same."""

from __future__ import annotations

import random

import pytest
from google.protobuf.message import DecodeError

from gateway.call import Call, read_call
from gateway.rpcs import RPCS, Rpc
from gateway.wire import MOST_FIELDS, bytes_field, string_field
from protos import grpc_service_pb2 as pb
from protos.contract import SERVICE
from protos.errors import HeadraceError, Reason
from protos.varint import varint

INFER = RPCS[f"/{SERVICE}/ModelInfer"]
_SEED = 20261123
_CASES = 20_000


def _request() -> pb.ModelInferRequest:
    request = pb.ModelInferRequest(model_name="digits", model_version="stable", id="r-1")
    request.parameters["priority"].int64_param = 2
    image = request.inputs.add(name="image", datatype="FP32", shape=[1, 64])
    image.parameters["binary_data"].bool_param = True
    request.inputs.add(name="words", datatype="BYTES", shape=[1]).contents.bytes_contents.append(b"one")
    request.outputs.add(name="label").parameters["classification"].int64_param = 3
    request.raw_input_contents.append(bytes(range(64)))
    return request


GOOD = _request().SerializeToString()


def _refused(body: bytes, rpc: Rpc = INFER) -> str:
    with pytest.raises(HeadraceError) as caught:
        read_call(rpc, body)
    assert caught.value.reason is Reason.REQUEST_MALFORMED
    assert caught.value.status.name == "INVALID_ARGUMENT"
    return caught.value.public


def test_a_request_is_read() -> None:
    call = read_call(INFER, GOOD)
    assert (call.model, call.version, call.id, call.shared_memory) == ("digits", "stable", "r-1", False)
    assert call.version_field is not None
    assert call.body[call.version_field.start : call.version_field.end] == string_field(2, "stable")
    assert call.body is GOOD


def test_nothing_named() -> None:
    call = read_call(INFER, b"")
    assert (call.model, call.version, call.id, call.version_field, call.shared_memory) == ("", "", "", None, False)


def test_every_rpc_is_read_by_its_own_numbers() -> None:
    ready = pb.ModelReadyRequest(name="digits", version="2").SerializeToString()
    call = read_call(RPCS[f"/{SERVICE}/ModelReady"], ready)
    assert (call.model, call.version, call.id) == ("digits", "2", "")
    load = pb.RepositoryModelLoadRequest(repository_name="r", model_name="digits").SerializeToString()
    call = read_call(RPCS[f"/{SERVICE}/RepositoryModelLoad"], load)
    assert (call.model, call.version) == ("digits", "")
    index = pb.RepositoryIndexRequest(repository_name="r").SerializeToString()
    assert read_call(RPCS[f"/{SERVICE}/RepositoryIndex"], index).model == ""


def _in_sequence(**choice: object) -> bytes:
    request = pb.ModelInferRequest(model_name="digits")
    request.parameters["sequence_start"].bool_param = True
    request.parameters["sequence_id"].CopyFrom(pb.InferParameter(**choice))
    return request.SerializeToString()


@pytest.mark.parametrize(
    ("choice", "sequence"),
    [
        ({"int64_param": 42}, "42"),
        ({"int64_param": 2**62}, str(2**62)),
        ({"uint64_param": 2**64 - 1}, str(2**64 - 1)),
        ({"string_param": "camera-7"}, "camera-7"),
        ({"string_param": "größe"}, "größe"),
        ({"string_param": "0"}, "0"),
        ({"int64_param": 0}, None),  # no sequence, as Triton has it
        ({"string_param": ""}, None),
        ({}, None),
    ],
)
def test_the_sequence_that_a_request_is_part_of(choice: dict[str, object], sequence: str | None) -> None:
    body = _in_sequence(**choice)
    found = read_call(INFER, body).sequence
    if found is None:
        assert sequence is None
        return
    assert (found.id, found.text) == (sequence, "string_param" in choice)
    parameters = pb.ModelInferRequest.FromString(body[slice(*found.field)]).parameters
    assert parameters == {"sequence_id": pb.InferParameter(**choice)}


@pytest.mark.parametrize("flag", [True, False, None])
@pytest.mark.parametrize(("name", "field"), [("sequence_start", "starts"), ("sequence_end", "ends")])
def test_whether_a_sequence_starts_or_ends(name: str, field: str, flag: bool | None) -> None:
    request = pb.ModelInferRequest(model_name="digits")
    request.parameters["sequence_id"].int64_param = 42
    if flag is not None:
        request.parameters[name].bool_param = flag
    assert getattr(read_call(INFER, request.SerializeToString()).sequence, field) is bool(flag)
    del request.parameters["sequence_id"]
    assert read_call(INFER, request.SerializeToString()).sequence is None  # of what?


def test_a_field_that_no_worker_knows_names_no_sequence() -> None:
    """The one that a worker reads is before it."""
    entry = bytes_field(4, string_field(1, "sequence_id") + bytes_field(2, b"\x10\x07" + b"\x48\x09"))
    found = read_call(INFER, string_field(1, "digits") + entry).sequence
    assert found is not None and found.id == "7"


def test_a_sequence_is_one_of_the_requests_own_parameters() -> None:
    assert read_call(INFER, GOOD).sequence is None
    request = pb.ModelInferRequest(model_name="digits", id="sequence_id")
    request.inputs.add(name="sequence_id").parameters["sequence_id"].int64_param = 7
    request.parameters["sequence_id_of"].int64_param = 8
    request.parameters["of"].string_param = "sequence_id"
    assert read_call(INFER, request.SerializeToString()).sequence is None


def test_a_sequence_that_is_not_read_alike_everywhere_is_malformed() -> None:
    once = _in_sequence(int64_param=1)
    entry = bytes_field(4, string_field(1, "sequence_id") + bytes_field(2, b"\x10\x02"))
    assert "sequence_id occurs twice" in _refused(once + entry)
    parts = string_field(1, "sequence_id") + bytes_field(2, b"\x10\x02") + bytes_field(2, b"")
    merged = pb.ModelInferRequest.FromString(bytes_field(4, parts))  # by protobuf
    assert merged.parameters["sequence_id"].int64_param == 2
    assert "two values" in _refused(bytes_field(4, parts))
    assert "is longer than" in _refused(_in_sequence(string_param="x" * 2000))
    assert "is no UTF-8" in _refused(
        bytes_field(4, string_field(1, "sequence_id") + bytes_field(2, bytes_field(3, b"\xff")))
    )


@pytest.mark.parametrize("number", [1, 2, 3])
def test_a_second_occurrence_is_malformed(number: int) -> None:
    once = string_field(number, "1")
    assert isinstance(read_call(INFER, once), Call)
    assert f"field {number} occurs twice" in _refused(once + once)
    assert "occurs twice" in _refused(GOOD + once)
    assert "occurs twice" in _refused(once + bytes_field(9, b"between") + once)
    assert "occurs twice" in _refused(string_field(number, "") + once)


@pytest.mark.parametrize("number", [1, 2, 3])
@pytest.mark.parametrize(("wire_type", "value"), [(0, b"\x01"), (1, bytes(8)), (5, bytes(4))])
def test_a_string_of_another_wire_type_is_malformed(number: int, wire_type: int, value: bytes) -> None:
    assert "is no string" in _refused(varint(number << 3 | wire_type) + value)
    assert read_call(INFER, varint(50 << 3 | wire_type) + value).model == ""  # a field we do not know may be anything


@pytest.mark.parametrize("number", [5, 6])
def test_a_tensor_of_another_wire_type_is_malformed(number: int) -> None:
    assert "is no tensor" in _refused(varint(number << 3) + b"\x01")


@pytest.mark.parametrize("where", [1, 4, 50])
def test_groups_are_malformed(where: int) -> None:
    group = varint(where << 3 | 3) + varint(where << 3 | 4)
    assert "wire type 3" in _refused(group)
    assert "wire type 3" in _refused(GOOD + group)


@pytest.mark.parametrize(
    "body",
    [
        b"\x8a\x80\x80\x80\x80\x00\x01a",  # a tag of six bytes
        b"\x0a\x81\x80\x80\x80\x80\x00a",  # a length of six bytes
        b"\x0a\xff\xff\xff\xff\x0fdigits",  # a length of 4 GiB
        b"\x0a\x07digits",
        b"\x0a",
        GOOD[:-1],
        GOOD + b"\x00",
    ],
)
def test_overlong_and_cut(body: bytes) -> None:
    _refused(body)


@pytest.mark.parametrize("length", [b"\x01", b"\x81\x00", b"\x81\x80\x00", b"\x81\x80\x80\x80\x00"])
def test_lengths_that_every_parser_reads_alike_may_be_longer_than_needed(length: bytes) -> None:
    body = b"\x0a" + length + b"a"
    assert read_call(INFER, body).model == "a" == pb.ModelInferRequest.FromString(body).model_name


@pytest.mark.parametrize("number", [1, 2, 3])
@pytest.mark.parametrize("data", [b"\xff", b"\xc0\x80", b"\xed\xa0\x80", b"\xf4\x90\x80\x80", b"a\xc3"])
def test_what_is_no_utf8_is_malformed(number: int, data: bytes) -> None:
    assert "is no UTF-8" in _refused(bytes_field(number, data))
    with pytest.raises(DecodeError):
        pb.ModelInferRequest.FromString(bytes_field(number, data))


def test_utf8_is_read() -> None:
    assert read_call(INFER, string_field(1, "chiffres-é")).model == "chiffres-é"


@pytest.mark.parametrize("version", ["1", "42", "9" * 18, "stable", "v1.2_a-b"])
def test_versions(version: str) -> None:
    assert read_call(INFER, string_field(2, version)).version == version


@pytest.mark.parametrize("version", ["0", "-1", "01", "1.0", " 1", "1\n", "9" * 19, "a/b", "_a", "a" * 64, "\u0661"])
def test_what_is_no_version(version: str) -> None:
    assert "model_version" in _refused(string_field(2, version))


def test_an_empty_version_is_none_yet_has_a_place() -> None:
    call = read_call(INFER, b"\x12\x00")
    assert call.version == ""
    assert call.version_field is not None


def test_there_may_be_only_so_many_fields() -> None:
    field = varint(50 << 3) + b"\x00"
    assert read_call(INFER, field * (MOST_FIELDS - 1) + string_field(1, "m")).model == "m"
    assert "fields" in _refused(field * MOST_FIELDS + string_field(1, "m"))


def test_fields_are_counted_over_all_levels() -> None:
    """A tensor that has to be looked into does not come with a count of its own."""
    note = bytes_field(9, b"shared_memory_")  # has the tensor looked into, and is no parameter
    tensor = bytes_field(5, bytes_field(8, b"") * 1_997 + note)
    assert not read_call(INFER, tensor + tensor).shared_memory  # 2 tensors and 2 * 1,998 fields in them
    assert "fields" in _refused(tensor * 3)
    entries = bytes_field(5, bytes_field(4, bytes_field(8, b"") * 1_997) + note)
    assert "fields" in _refused(entries * 3)


# ---- shared memory ----

_KEYS = ["shared_memory_region", "shared_memory_byte_size", "shared_memory_offset", "shared_memory_"]


@pytest.mark.parametrize("key", _KEYS)
@pytest.mark.parametrize("side", ["inputs", "outputs"])
def test_shared_memory_is_found_on_either_side(side: str, key: str) -> None:
    request = _request()
    assert not read_call(INFER, request.SerializeToString()).shared_memory
    getattr(request, side)[-1].parameters[key].string_param = "region0"
    assert read_call(INFER, request.SerializeToString()).shared_memory


def test_shared_memory_is_not_found_where_it_is_only_data() -> None:
    request = _request()
    request.id = "shared_memory_region"
    request.raw_input_contents.append(b"\x0a\x14shared_memory_region")
    parameter = bytes_field(4, string_field(1, "shared_memory_region"))
    words = request.inputs.add(name="shared_memory_region", datatype="BYTES", shape=[1])
    words.contents.bytes_contents.extend([b"shared_memory_region", parameter])
    words.parameters["note"].string_param = "shared_memory_region"
    words.parameters["my_shared_memory_region"].string_param = ""
    request.parameters["shared_memory_region"].string_param = "of the request: no worker reads it"
    request.outputs.add(name="shared_memory_region").parameters["x"].string_param = "shared_memory_region"
    assert not read_call(INFER, request.SerializeToString()).shared_memory


def test_of_two_keys_in_one_entry_either_counts() -> None:
    for keys in (("shared_memory_region", "a"), ("a", "shared_memory_region")):
        entry = b"".join(string_field(1, key) for key in keys)
        assert read_call(INFER, bytes_field(5, bytes_field(4, entry))).shared_memory


def test_a_tensor_that_names_shared_memory_and_cannot_be_read_is_malformed() -> None:
    named = bytes_field(4, string_field(1, "shared_memory_region"))
    assert read_call(INFER, bytes_field(5, named)).shared_memory
    for broken in (b"\x0b" + named, bytes_field(4, b"\x0b") + named, b"\x22\xff\x00" + named):
        _refused(bytes_field(5, broken))


def test_only_infer_has_tensors() -> None:
    ready = RPCS[f"/{SERVICE}/ModelReady"]
    tensor = bytes_field(5, bytes_field(4, string_field(1, "shared_memory_region")))
    assert read_call(INFER, tensor).shared_memory
    assert not read_call(ready, tensor).shared_memory


# ---- against protobuf's own parser ----


def _seeds() -> list[bytes]:
    shared = _request()
    shared.inputs[0].parameters["shared_memory_region"].string_param = "region0"
    shared.outputs[0].parameters["shared_memory_offset"].int64_param = 8
    small = pb.ModelInferRequest(model_name="m", model_version="1", id="i")
    reordered = string_field(3, "i") + string_field(2, "2") + bytes_field(7, b"raw") + string_field(1, "m")
    unknown = reordered + varint(100 << 3) + b"\x05" + varint(99 << 3 | 5) + b"abcd"
    return [GOOD, shared.SerializeToString(), small.SerializeToString(), reordered, unknown]


_INTERESTING = (
    b"\x0a",
    b"\x12",
    b"\x1a",
    b"\x2a",
    b"\x32",
    b"\x0b",
    b"\x80",
    b"\xff",
    b"\x00",
    b"\x8a\x00",
    b"\x12\x01",
)


def _mutated(random_: random.Random, seeds: list[bytes]) -> bytes:
    body = bytearray(random_.choice(seeds))
    for _ in range(random_.choice((1, 1, 1, 2, 4))):
        at = random_.randrange(len(body) + 1)
        to = min(len(body), at + random_.randint(0, 12))
        kind = random_.randrange(6)
        if kind == 0 and body:
            body[at % len(body)] = random_.randrange(256)
        elif kind == 1:
            body[at:at] = random_.choice(_INTERESTING)
        elif kind == 2:
            del body[at:to]
        elif kind == 3:
            body[to:to] = body[at:to]
        elif kind == 4:
            body += random_.choice(seeds)[:to]
        else:
            body[at:at] = string_field(random_.randint(1, 7), random_.choice(("m", "1", "stable", "shared_memory_x")))
    return bytes(body)


def test_noise_raises_nothing_else_and_the_worker_reads_the_same() -> None:
    random_ = random.Random(_SEED)
    seeds = _seeds()
    agreed = refused = 0
    for case in range(_CASES):
        body = random_.randbytes(random_.randrange(60)) if case % 5 == 0 else _mutated(random_, seeds)
        try:
            call = read_call(INFER, body)
        except HeadraceError as error:
            assert error.reason is Reason.REQUEST_MALFORMED  # noqa: PT017 - of thousands, most are refused
            refused += 1
            continue
        try:
            parsed = pb.ModelInferRequest.FromString(body)
        except DecodeError:
            continue
        assert (call.model, call.version, call.id) == (parsed.model_name, parsed.model_version, parsed.id), body.hex()
        tensors = [*parsed.inputs, *parsed.outputs]
        if any(key.startswith("shared_memory_") for tensor in tensors for key in tensor.parameters):
            assert call.shared_memory, body.hex()
        agreed += 1
    # Both sides of the comparison were really met.
    assert agreed > _CASES / 20
    assert refused > _CASES / 20


def test_every_cut_of_a_good_message_is_refused_or_read_alike() -> None:
    for end in range(len(GOOD)):
        try:
            call = read_call(INFER, GOOD[:end])
        except HeadraceError:
            with pytest.raises(DecodeError):
                pb.ModelInferRequest.FromString(GOOD[:end])
            continue
        parsed = pb.ModelInferRequest.FromString(GOOD[:end])
        assert (call.model, call.version, call.id) == (parsed.model_name, parsed.model_version, parsed.id)
