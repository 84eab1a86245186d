"""The error table, row by row, and what else every call can count on."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import grpc
import grpc.aio
import pytest
from google.rpc import error_details_pb2, status_pb2

from protos import grpc_service_pb2 as pb
from tests.gateway.tokens import Issuer
from tests.gateway.world import INFER, SERVICE, Refusal, World, echo, failing, hanging, refusal
from tests.lines import kept

Code = grpc.StatusCode
PRIVATE = "private-words-10.1.2.3:4567"


@pytest.fixture
def world(lanes: World) -> World:
    return lanes


def infer(model: str = "digits", version: str = "") -> bytes:
    return pb.ModelInferRequest(model_name=model, model_version=version).SerializeToString()


async def refused(call: Awaitable[object]) -> Refusal:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    return refusal(caught.value)


@dataclass
class Row:
    name: str
    call: Callable[[World], Awaitable[object]]
    status: grpc.StatusCode
    reason: str | None
    waits: bool = False
    says: str = ""


def worker_says(status: grpc.StatusCode, words: str) -> Callable[[World], Awaitable[object]]:
    async def call(world: World) -> object:
        world.one.behaviour[INFER] = failing(status, words)
        return await world.infer()

    return call


def slow(world: World) -> Awaitable[object]:
    async def sleep(message: bytes, context: grpc.aio.ServicerContext) -> bytes:
        await asyncio.sleep(30)
        return await echo(message, context)

    world.one.behaviour[INFER] = sleep
    return world.infer("slow")


def broken(world: World) -> Awaitable[object]:
    async def fail(_message: bytes, _context: grpc.aio.ServicerContext) -> bytes:
        raise RuntimeError(PRIVATE)

    world.one.behaviour[INFER] = fail
    return world.infer()


def shared_memory(world: World) -> Awaitable[object]:
    request = pb.ModelInferRequest(model_name="digits")
    request.inputs.add(name="x").parameters["shared_memory_region"].string_param = "r"
    return world.call("ModelInfer", request.SerializeToString())


def spoilt(world: World) -> list[tuple[str, str | bytes]]:
    key, value = world.bearer()
    head, payload, signature = value.split(".")
    return [(key, f"{head}.{payload}.{signature[:-8]}AAAAAAAA")]


ROWS = [
    Row("no token", lambda w: w.infer(metadata=[]), Code.UNAUTHENTICATED, "TOKEN_MISSING"),
    Row(
        "malformed", lambda w: w.infer(metadata=[("authorization", "Bearer x")]), Code.UNAUTHENTICATED, "TOKEN_INVALID"
    ),
    Row("bad signature", lambda w: w.infer(metadata=spoilt(w)), Code.UNAUTHENTICATED, "TOKEN_INVALID"),
    Row("expired", lambda w: w.infer(exp=1), Code.UNAUTHENTICATED, "TOKEN_EXPIRED"),
    Row("other audience", lambda w: w.infer(aud="elsewhere"), Code.UNAUTHENTICATED, "TOKEN_INVALID"),
    Row("other issuer", lambda w: w.infer(iss="https://evil/"), Code.UNAUTHENTICATED, "TOKEN_INVALID"),
    Row("not granted", lambda w: w.infer("secret"), Code.PERMISSION_DENIED, "NOT_GRANTED"),
    Row("not granted and not there", lambda w: w.infer("nowhere"), Code.PERMISSION_DENIED, "NOT_GRANTED"),
    Row("granted and not there", lambda w: w.infer("ghost"), Code.NOT_FOUND, "MODEL_UNKNOWN"),
    Row("no such version", lambda w: w.infer(version="9"), Code.NOT_FOUND, "VERSION_UNKNOWN"),
    Row("no such alias", lambda w: w.infer(version="newest"), Code.NOT_FOUND, "VERSION_UNKNOWN"),
    Row("no copy", lambda w: w.infer("dead"), Code.UNAVAILABLE, "MODEL_NOT_READY", waits=True),
    Row("worker not ready", worker_says(Code.UNAVAILABLE, PRIVATE), Code.UNAVAILABLE, "MODEL_NOT_READY", waits=True),
    Row("unreadable", lambda w: w.call("ModelInfer", b"\x0a\xff"), Code.INVALID_ARGUMENT, "REQUEST_MALFORMED"),
    Row("twice", lambda w: w.call("ModelInfer", infer() * 2), Code.INVALID_ARGUMENT, "REQUEST_MALFORMED"),
    Row("too many", lambda w: w.call("ModelInfer", b"\x3a\0" * 4_001), Code.INVALID_ARGUMENT, "REQUEST_MALFORMED"),
    Row("long name", lambda w: w.infer("m" * 1025), Code.INVALID_ARGUMENT, "REQUEST_MALFORMED"),
    Row(
        "long id",
        lambda w: w.call("ModelInfer", infer() + b"\x1a\x81\x08" + b"i" * 1025),
        Code.INVALID_ARGUMENT,
        "REQUEST_MALFORMED",
    ),
    Row("version", lambda w: w.infer(version="1; drop"), Code.INVALID_ARGUMENT, "REQUEST_MALFORMED"),
    Row("shared memory", shared_memory, Code.INVALID_ARGUMENT, "SHARED_MEMORY_REFUSED"),
    Row(
        "too large",
        lambda w: w.call("ModelInfer", infer("small") + b"\x3a\x82\x08" + bytes(1026)),
        Code.RESOURCE_EXHAUSTED,
        "TOO_LARGE",
    ),
    Row("queue full", worker_says(Code.RESOURCE_EXHAUSTED, PRIVATE), Code.RESOURCE_EXHAUSTED, "OVERLOADED", waits=True),
    Row(
        "queue full, as Triton says it",
        worker_says(Code.UNAVAILABLE, f"[request id: {PRIVATE}] Exceeds maximum queue size"),
        Code.RESOURCE_EXHAUSTED,
        "OVERLOADED",
        waits=True,
    ),
    Row("the model's time is up", slow, Code.DEADLINE_EXCEEDED, "DEADLINE"),
    Row(
        "time is up in Triton's queue",
        worker_says(Code.UNAVAILABLE, "Request timeout expired"),
        Code.DEADLINE_EXCEEDED,
        "DEADLINE",
    ),
    *(
        Row(f"worker's own {code.name}", worker_says(code, "the worker's words"), code, None, says="the worker's words")
        for code in (Code.INVALID_ARGUMENT, Code.NOT_FOUND, Code.FAILED_PRECONDITION, Code.UNIMPLEMENTED, Code.ABORTED)
    ),
    *(
        Row(f"worker's own {code.name}", worker_says(code, PRIVATE), Code.INTERNAL, "INTERNAL", says="internal error")
        for code in (Code.INTERNAL, Code.UNKNOWN, Code.DATA_LOSS, Code.CANCELLED)
    ),
    Row("worker broken", broken, Code.INTERNAL, "INTERNAL", says="internal error (request "),
]


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
async def test_error_table(world: World, row: Row) -> None:
    assert (await world.infer()).id == "7"  # the same world answers a good call

    told = await refused(row.call(world))

    assert (told.status, told.reason) == (row.status, row.reason)
    assert told.domain == (None if row.reason is None else "headrace")
    assert (told.retry_after is not None and 0 < told.retry_after <= 5) if row.waits else told.retry_after is None
    assert row.says in told.text
    private = [PRIVATE, "10.1.2.3", world.one.address, "Error:", "Traceback", world.bearer()[1][7:40]]
    assert not [words for words in private if words in told.everything]


async def test_the_answer_for_an_unknown_model_is_the_one_for_an_ungranted(world: World) -> None:
    unknown, ungranted = await refused(world.infer("nowhere")), await refused(world.infer("secret"))
    assert unknown.text == ungranted.text


async def test_an_exception_of_our_own_keeps_its_words_to_itself(
    world: World, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*_arguments: object) -> None:
        raise ZeroDivisionError(PRIVATE)

    monkeypatch.setattr("gateway.steps.choose", fail)
    told = await refused(world.infer())
    assert (told.status, told.reason) == (Code.INTERNAL, "INTERNAL")
    assert PRIVATE not in told.everything
    request_id = told.text.partition("(request ")[2].rstrip(")")
    assert len(request_id) == 32
    assert any(request_id in record.getMessage() and record.levelno == logging.ERROR for record in caplog.records)


async def test_what_is_logged_in_a_call_has_its_ids(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    async def log_and_fail(*_arguments: object) -> None:
        await asyncio.to_thread(logging.getLogger("a.library").error, "deep inside")
        raise ZeroDivisionError

    monkeypatch.setattr("gateway.steps.forward", log_and_fail)
    traces = [f"{number:032x}" for number in range(1, 4)]

    async def call(trace: str) -> str:
        parent = ("traceparent", f"00-{trace}-00f067aa0ba902b7-01")
        told = await refused(world.infer(metadata=[world.bearer(), parent]))
        return told.text.partition("(request ")[2].rstrip(")")

    with kept() as lines:
        ids = await asyncio.gather(*map(call, traces))
    told = {(line.request_id, line.fields["trace_id"]) for line in lines if line.logger == "a.library"}
    assert told >= set(zip(ids, traces, strict=True))  # the express lane has seen each before


async def test_the_workers_own_details_are_handed_on(world: World) -> None:
    info = error_details_pb2.ErrorInfo(reason="BAD_SHAPE", domain="triton")
    status = status_pb2.Status(code=3, message="wrong shape")
    status.details.add().Pack(info)
    trailers = (("grpc-status-details-bin", status.SerializeToString()),)
    world.one.behaviour[INFER] = failing(Code.INVALID_ARGUMENT, "wrong shape", trailers)
    told = await refused(world.infer())
    assert (told.reason, told.domain, told.text) == ("BAD_SHAPE", "triton", "wrong shape")


async def test_a_stranger_is_refused_before_the_message_is_read(world: World) -> None:
    call = world.channel.stream_unary(INFER)(metadata=[])  # a call whose message never comes
    told = await refused(call)
    assert told.reason == "TOKEN_MISSING"

    nobody = world.channel.stream_unary(INFER)(metadata=[world.bearer(scope="nothing")])
    assert (await refused(nobody)).reason == "NOT_GRANTED"  # nor for one who may do nothing here

    known = world.channel.stream_unary(INFER)(metadata=[world.bearer()])
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(asyncio.shield(asyncio.ensure_future(known)), 0.3)
    known.cancel()


async def test_a_message_that_does_not_come_is_not_waited_for(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.exchange._READ_WITHIN", 0.1)
    told = await refused(world.channel.stream_unary(INFER)(metadata=[world.bearer()]))
    assert (told.status, told.reason) == (Code.DEADLINE_EXCEEDED, "DEADLINE")


async def test_a_call_without_a_message_is_malformed(world: World) -> None:
    call = world.channel.stream_unary(INFER)(metadata=[world.bearer()])
    await call.done_writing()
    assert (await refused(call)).reason == "REQUEST_MALFORMED"


async def test_an_rpc_that_the_contract_does_not_have(world: World) -> None:
    assert (await refused(world.call("ModelExplain", b""))).status is Code.UNIMPLEMENTED


async def test_what_the_worker_gets(world: World) -> None:
    forged = [
        world.bearer(sub="al@ice"),
        ("x-model-name", "secret"),
        ("x-model-version", "9"),
        ("x-caller", "root"),
        ("x-grant", "root"),
        ("x-request-id", "mine"),
        ("x-sequence-id", "1"),
        ("x_caller", "root"),
        ("x.caller", "root"),
        ("x-caller-bin", b"root"),
        ("authorization-bin", b"token"),
        ("x-b3-traceid", "1"),
        ("cookie", "1"),
        ("x-envoy-retry-on", "5xx"),
        ("kept", "1"),
        ("kept-bin", b"\x00\xff"),
    ]
    await world.infer(metadata=forged)
    pairs = [pair for pair in world.one.metadata[-1] if pair[0] not in ("user-agent", "traceparent")]
    got = dict(pairs)
    assert len(got["x-request-id"]) == 32
    assert sorted(pairs) == sorted(
        [
            ("kept", "1"),
            ("kept-bin", b"\x00\xff"),
            ("x-model-name", "digits"),
            ("x-caller", f"al%40ice@{world.issuer.name}"),
            ("x-grant", "scope=all"),
            ("x-request-id", got["x-request-id"]),
        ]
    )


async def test_the_token_goes_on_only_where_the_model_asks_for_it(world: World) -> None:
    bearer = world.bearer()
    await world.infer("token", metadata=[bearer])
    assert bearer in world.one.metadata[-1]
    await world.infer("digits", metadata=[bearer])
    assert "authorization" not in dict(world.one.metadata[-1])


async def test_versions_aliases_and_shared_copies(world: World) -> None:
    assert (await world.infer(version="canary")).model_version == "2"
    assert dict(world.two.metadata[-1])["x-model-version"] == "2"
    assert (await world.infer(version="1")).model_version == "1"
    assert (await world.infer()).model_version == ""  # drawn, not pinned: the copies know their version
    assert "x-model-version" not in dict(world.one.metadata[-1])
    assert (await world.infer("shared")).model_version == "2"  # drawn by us, and pinned


async def test_deadlines_are_bounded_by_the_model_and_passed_on(world: World) -> None:
    await world.infer(timeout=None)
    await world.infer(timeout=60)
    await world.infer(timeout=1)
    without, longer, shorter = world.one.remaining
    assert without is not None and 3 < without <= 5.1  # the model's 5 s
    assert longer is not None and 3 < longer <= 5.1
    assert shorter is not None and shorter <= 1.6  # the caller's and half a second, rounded on the wire


async def test_a_caller_that_leaves_takes_its_call_along(world: World) -> None:
    reached = asyncio.Event()

    world.one.behaviour[INFER] = hanging(reached)
    call = asyncio.create_task(world.infer())
    await asyncio.wait_for(reached.wait(), 5)
    call.cancel()
    await asyncio.wait_for(world.one.cancelled.wait(), 5)


async def test_worker_metadata_reaches_the_caller_but_for_what_is_ours(world: World) -> None:
    async def answer(message: bytes, context: grpc.aio.ServicerContext) -> bytes:
        await context.send_initial_metadata((("first", "1"), ("x-envoy-upstream", "a")))
        context.set_trailing_metadata((("last", "2"), ("x-caller", "b")))
        return await echo(message, context)

    world.one.behaviour[INFER] = answer
    call = world.channel.unary_unary(INFER)(infer(), metadata=[world.bearer()])
    await call
    initial, trailing = dict(await call.initial_metadata()), dict(await call.trailing_metadata())
    assert initial["first"] == "1" and trailing["last"] == "2"
    assert "x-envoy-upstream" not in initial and "x-caller" not in trailing


async def test_far_too_large_is_refused_by_grpc_itself(world: World) -> None:
    told = await refused(world.call("ModelInfer", infer() + b"\x3a\x80\x80\x80\x60" + bytes(192 * 1024**2)))
    assert told.status is Code.RESOURCE_EXHAUSTED


async def test_the_same_door_for_another_algorithm_or_issuer_is_closed(world: World) -> None:
    stranger = Issuer(world.issuer.name)  # the right name, another key
    told = await refused(world.infer(metadata=[("authorization", f"Bearer {stranger.token(scope='all')}")]))
    assert told.reason == "TOKEN_INVALID"


@pytest.mark.parametrize("method", ["ModelReady", "ModelMetadata", "ModelConfig"])
async def test_inspection_takes_its_own_grant(world: World, method: str) -> None:
    seen: list[bytes] = []

    async def note(message: bytes, _context: grpc.aio.ServicerContext) -> bytes:
        seen.append(message)
        return b""

    for worker in world.workers.values():
        worker.behaviour[SERVICE + method] = note
    message = pb.ModelReadyRequest(name="digits", version="canary").SerializeToString()
    await world.call(method, message)
    assert seen == [pb.ModelReadyRequest(name="digits", version="2").SerializeToString()]
    assert (await refused(world.call(method, message, scope="nothing"))).reason == "NOT_GRANTED"


async def test_server_calls(world: World) -> None:
    live = pb.ServerLiveResponse.FromString(await world.call("ServerLive", b"", metadata=[]))
    assert live.live
    async with asyncio.timeout(5):
        while not pb.ServerReadyResponse.FromString(await world.call("ServerReady", b"", metadata=[])).ready:
            await asyncio.sleep(0.01)
    assert (await refused(world.call("ServerMetadata", b"", metadata=[]))).reason == "TOKEN_MISSING"
    assert pb.ServerMetadataResponse.FromString(await world.call("ServerMetadata", b"")).name == "headrace"
