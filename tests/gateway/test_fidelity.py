"""Bytes in equal bytes out."""

from collections.abc import Iterator

import grpc
import grpc.aio
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gateway.wire import string_field
from protos import grpc_service_pb2 as pb
from protos.varint import varint
from tests.envoy import needs_envoy
from tests.gateway.world import INFER, World, refusal, world_in_thread

EXAMPLES = max(250, settings.default.max_examples)  # pytest --hypothesis-profile thorough: 2000

TENSOR = st.builds(
    lambda name, datatype, shape, numbers: pb.ModelInferRequest.InferInputTensor(
        name=name, datatype=datatype, shape=shape, contents=pb.InferTensorContents(fp32_contents=numbers)
    ),
    st.text(max_size=8),
    st.sampled_from(["FP32", "BYTES", "INT64"]),
    st.lists(st.integers(0, 2**40), max_size=3),
    st.lists(st.floats(width=32, allow_nan=False), max_size=5),
)
PARAMETER = st.one_of(
    st.booleans().map(lambda value: pb.InferParameter(bool_param=value)),
    st.integers(-(2**63), 2**63 - 1).map(lambda value: pb.InferParameter(int64_param=value)),
    st.text(max_size=20).map(lambda value: pb.InferParameter(string_param=value)),
)


@st.composite
def unknown_fields(draw: st.DrawFn) -> bytes:
    """Fields that the contract does not know, of every wire type that parsers still agree on."""
    written = b""
    for number in draw(st.lists(st.integers(100, 2**29 - 1), max_size=3)):
        kind = draw(st.sampled_from([0, 1, 2, 5]))
        value = {
            0: lambda: varint(draw(st.integers(0, 2**64 - 1))),
            1: lambda: draw(st.binary(min_size=8, max_size=8)),
            2: lambda: ((data := draw(st.binary(max_size=30))) and varint(len(data)) + data) or b"\0",
            5: lambda: draw(st.binary(min_size=4, max_size=4)),
        }[kind]()
        written += varint(number << 3 | kind) + value
    return written


@st.composite
def requests(draw: st.DrawFn) -> tuple[str, bytes, bytes, bytes]:
    """The version asked for; what comes before its field, the field, and what follows."""
    request = pb.ModelInferRequest(
        model_name="digits",
        id=draw(st.text(max_size=20)),
        inputs=draw(st.lists(TENSOR, max_size=3)),
        raw_input_contents=draw(st.lists(st.binary(max_size=200), max_size=3)),
    )
    for key, value in draw(st.dictionaries(st.text(max_size=8), PARAMETER, max_size=3)).items():
        request.parameters[key].CopyFrom(value)
    version = draw(st.sampled_from(["", "1", "stable", "2", "canary"]))
    field = string_field(2, version) if version else b""
    first, last = draw(unknown_fields()), draw(unknown_fields())
    parts = [first, request.SerializeToString(), last]
    at = draw(st.integers(0, 3))
    return version, b"".join(parts[:at]), field, b"".join(parts[at:])


Behind = tuple[World, grpc.UnaryUnaryMultiCallable]


@pytest.fixture(scope="module", params=[False, pytest.param(True, marks=needs_envoy)], ids=["python", "express"])
def behind(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Behind]:
    with (
        world_in_thread(tmp_path_factory.mktemp("fidelity"), express=request.param) as world,
        grpc.insecure_channel(world.address) as channel,
    ):
        yield world, channel.unary_unary(INFER)


@settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck))
@given(asked=requests())
def test_what_the_worker_receives_is_what_the_caller_sent(behind, asked: tuple[str, bytes, bytes, bytes]) -> None:
    world, infer = behind
    version, before, field, after = asked
    for each in world.workers.values():
        each.behaviour.clear()
    resolved = {"stable": "1", "canary": "2"}.get(version)
    worker = world.workers[{"": "1"}.get(version, resolved or version)]

    infer(before + field + after, metadata=[world.bearer()], timeout=10)

    edited = string_field(2, resolved) if resolved else field
    assert worker.infers()[-1] == before + edited + after
    worker.calls.clear()


@st.composite
def spoilt(draw: st.DrawFn) -> bytes:
    """A request, and something done to it."""
    request = pb.ModelInferRequest(
        model_name="digits",
        id=draw(st.sampled_from(["", "7", "\u00fc", "i" * 1100])),
        inputs=draw(st.lists(TENSOR, max_size=2)),
        raw_input_contents=draw(st.lists(st.binary(max_size=60), max_size=2)),
    )
    message = request.SerializeToString()
    for _ in range(draw(st.integers(0, 3))):
        at = draw(st.integers(0, len(message)))
        new = draw(st.one_of(st.binary(max_size=4), st.sampled_from([b"\x0a\x06digits", b"\x12\x011", b"\x1a\x017"])))
        message = message[:at] + new + message[at + draw(st.sampled_from([0, 0, 1, len(new)])) :]
    return message


def outcome(world: World, infer: grpc.UnaryUnaryMultiCallable, message: bytes, *more: tuple[str, str]) -> tuple:
    """The status, its reason, and what the worker got."""
    for worker in world.workers.values():
        worker.calls.clear()
    try:
        infer(message, metadata=[world.bearer(), *more], timeout=10)
    except grpc.RpcError as error:
        told = refusal(error)
        return told.status, told.reason, world.one.infers(), world.two.infers()
    return grpc.StatusCode.OK, None, world.one.infers(), world.two.infers()


@settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck))
@given(message=spoilt())
def test_whatever_the_message_both_lanes_do_the_same(behind: Behind, message: bytes) -> None:
    """With a key that the express lane leaves to Python, Python says what is right."""
    world, infer = behind
    for worker in world.workers.values():
        worker.behaviour[INFER] = silent
    assert outcome(world, infer, message) == outcome(world, infer, message, ("a_b", "1"))


async def silent(_message: bytes, _context: grpc.aio.ServicerContext) -> bytes:
    """Answers whatever comes: what a worker makes of it is not the question."""
    return b""
