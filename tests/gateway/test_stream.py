"""ModelStreamInfer through the gateway."""

import asyncio
import time
from collections import Counter
from pathlib import Path

import grpc
import grpc.aio
import pytest

from protos import grpc_service_pb2 as pb
from tests.gateway import world as worlds
from tests.gateway.streams import LARGE, Endless, answer, answers, at_a_stand, message, opened
from tests.gateway.test_service import refused
from tests.gateway.world import STREAM, Metadata, World, echo, failing, hanging

Code = grpc.StatusCode


async def exchanged(world: World, *messages: bytes, extra: Metadata = []) -> list[pb.ModelStreamInferResponse]:  # noqa: B006 - never changed
    call = opened(world, [world.bearer(), *extra])
    for each in messages:
        await call.write(each)
    await call.done_writing()
    return await answers(call)


async def test_one_stream_reaches_several_models_and_keeps_the_order_of_each(world: World) -> None:
    sent = [message("digits", "canary" if n % 2 else "1", str(n)) for n in range(40)]
    got = [answer.infer_response for answer in await exchanged(world, *sent)]
    assert [answer.id for answer in got if answer.model_version == "1"] == [str(n) for n in range(0, 40, 2)]
    assert [answer.id for answer in got if answer.model_version == "2"] == [str(n) for n in range(1, 40, 2)]
    assert {dict(pairs)["x-model-version"] for pairs in world.two.metadata} == {"2"}


async def test_a_refused_message_is_answered_in_band_and_the_stream_goes_on(world: World) -> None:
    got = await exchanged(
        world, message("digits", id="a"), message("secret", id="b"), message("digits", id="c"), b"\x0a\xff"
    )
    good = [answer.infer_response.id for answer in got if not answer.error_message]
    bad = sorted(
        (answer.error_message.partition(":")[0], answer.infer_response.id) for answer in got if answer.error_message
    )
    assert good == ["a", "c"]
    assert bad == [("NOT_GRANTED", "b"), ("REQUEST_MALFORMED", "")]


async def test_a_refused_message_is_in_the_log(world: World, caplog: pytest.LogCaptureFixture) -> None:
    """The stream's own end says nothing of it."""
    await exchanged(world, message("digits"), message("secret"))
    assert "NOT_GRANTED" in caplog.text
    assert "'secret'" in caplog.text


async def test_a_refused_message_ends_the_stream_where_the_caller_asks_for_a_status(world: World) -> None:
    told = await refused(exchanged(world, message("secret"), extra=[("triton_grpc_error", "true")]))
    assert (told.status, told.reason) == (Code.PERMISSION_DENIED, "NOT_GRANTED")


@pytest.mark.parametrize("strict", [True, False])
async def test_what_a_worker_says_in_band_ends_the_stream_where_the_caller_asks_for_a_status(
    world: World, strict: bool
) -> None:
    """Which the worker is not told: real ones have died of it."""

    async def failing(context: grpc.aio.ServicerContext) -> None:
        await context.read()
        await context.write(answer("a"))
        await context.write(pb.ModelStreamInferResponse(error_message="x is negative").SerializeToString())
        while await context.read() is not grpc.aio.EOF:
            pass

    world.one.streaming = failing
    call = opened(world, [world.bearer(), ("triton_grpc_error", "true")] if strict else None)
    await call.write(message("digits", id="a"))
    assert pb.ModelStreamInferResponse.FromString(await call.read()).infer_response.id == "a"
    if strict:
        told = await refused(answers(call))
        assert (told.status, told.reason, told.text) == (Code.UNKNOWN, None, "x is negative")
    else:
        await call.done_writing()
        assert [one.error_message for one in await answers(call)] == ["x is negative"]
    assert not any(key == "triton_grpc_error" for pairs in world.one.metadata for key, _ in pairs)


async def test_a_stream_without_a_token_is_refused(world: World) -> None:
    assert (await refused(answers(opened(world, [])))).reason == "TOKEN_MISSING"


async def test_a_token_that_expires_ends_a_stream_that_is_silent(world: World) -> None:
    expires = time.time() + 0.5
    call = opened(world, [world.bearer(exp=expires)])  # and the leeway is one second
    await call.write(message("digits", id="a"))
    assert pb.ModelStreamInferResponse.FromString(await call.read()).infer_response.id == "a"
    told = await refused(asyncio.wait_for(call.read(), 10))
    assert (told.status, told.reason) == (Code.UNAUTHENTICATED, "TOKEN_EXPIRED")
    assert 0 <= time.time() - (expires + 1) < 1


@pytest.mark.parametrize("reads", [True, False])
async def test_a_token_that_expires_ends_answers_without_end(world: World, reads: bool) -> None:
    """Also where the caller takes none of them."""
    world.one.streaming = Endless(1, 0.001)
    call = opened(world, [world.bearer(exp=time.time() + 0.5)])
    await call.write(message("digits"))
    if reads:
        told = await refused(asyncio.wait_for(answers(call), 10))
        assert (told.status, told.reason) == (Code.UNAUTHENTICATED, "TOKEN_EXPIRED")
    await asyncio.wait_for(world.one.cancelled.wait(), 10)


async def test_a_grant_that_is_taken_away_ends_a_stream_that_is_silent(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateway.stream._LOOK", 0.2)
    world.one.streaming = Endless(1, 0.001)
    going_on, ended = opened(world), opened(world, [world.bearer(scope="digits")])
    for call in (going_on, ended):
        await call.write(message("digits"))
        await call.done_writing()
    world.configure(lambda config: config["grants"].pop())
    told = await refused(asyncio.wait_for(answers(ended), 10))
    assert (told.status, told.reason) == (Code.PERMISSION_DENIED, "NOT_GRANTED")
    assert isinstance(await going_on.read(), bytes)
    going_on.cancel()


async def test_what_a_worker_says_in_band_passes_as_it_is(world: World) -> None:
    said = [answer("a", error_message="[ref] 4.5 \u00e9"), answer("b")]

    async def say(context: grpc.aio.ServicerContext) -> None:
        while isinstance(await context.read(), bytes):
            for each in said:
                await context.write(each)

    world.one.streaming = say
    assert [each.SerializeToString() for each in await exchanged(world, message("digits"))] == said


async def test_a_worker_that_ends_its_stream_early_ends_the_callers(world: World) -> None:
    async def leave(context: grpc.aio.ServicerContext) -> None:
        await context.read()  # which nobody will ever answer

    world.one.streaming = leave
    call = opened(world)
    await call.write(message("digits"))
    told = await refused(asyncio.wait_for(answers(call), 10))
    assert (told.status, told.reason) == (Code.UNAVAILABLE, "MODEL_NOT_READY")


async def test_a_worker_that_fails_takes_the_other_upstream_streams_along(world: World) -> None:
    reached = asyncio.Event()
    world.one.behaviour[STREAM] = hanging(reached)
    call = opened(world)
    await call.write(message("digits", "1"))
    await asyncio.wait_for(reached.wait(), 5)
    world.two.behaviour[STREAM] = failing(Code.INVALID_ARGUMENT, "no such input")
    await call.write(message("digits", "2"))
    told = await refused(asyncio.wait_for(answers(call), 10))
    assert (told.status, told.reason, told.text) == (Code.INVALID_ARGUMENT, None, "no such input")
    await asyncio.wait_for(world.one.cancelled.wait(), 5)


async def test_the_callers_deadline_ends_a_stream_at_both_ends(world: World) -> None:
    world.one.streaming = Endless(1, 0.001)
    call = opened(world, timeout=1)
    await call.write(message("digits"))
    assert (await refused(asyncio.wait_for(answers(call), 10))).status is Code.DEADLINE_EXCEEDED
    await asyncio.wait_for(world.one.cancelled.wait(), 5)


async def test_a_caller_that_leaves_with_answers_untaken_cancels_upstream(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    world.one.streaming = endless = Endless(LARGE)
    call = opened(world)
    await call.write(message("digits"))
    assert await at_a_stand(lambda: endless.given)
    call.cancel()
    await asyncio.wait_for(world.one.cancelled.wait(), 5)
    assert "request" not in caplog.text


async def test_a_worker_that_fails_ends_the_stream(world: World) -> None:
    world.one.behaviour[STREAM] = failing(Code.UNAVAILABLE, "10.1.2.3 is down")
    told = await refused(exchanged(world, message("digits", id="a")))
    assert (told.status, told.reason) == (Code.UNAVAILABLE, "MODEL_NOT_READY")
    assert "10.1.2.3" not in told.everything


async def test_a_caller_that_leaves_cancels_upstream(world: World) -> None:
    reached = asyncio.Event()

    world.one.behaviour[STREAM] = hanging(reached)
    call = opened(world)
    await call.write(message("digits", id="a"))
    await asyncio.wait_for(reached.wait(), 5)
    assert not world.one.cancelled.is_set()
    call.cancel()
    await asyncio.wait_for(world.one.cancelled.wait(), 5)


async def test_answers_may_come_after_the_caller_has_closed_its_side(world: World) -> None:
    gate = asyncio.Event()

    async def later(body: bytes, context: grpc.aio.ServicerContext) -> bytes:
        await gate.wait()
        return await echo(body, context)

    world.one.behaviour[STREAM] = later
    call = opened(world)
    await call.write(message("digits", id="a"))
    await call.done_writing()
    gate.set()
    assert [answer.infer_response.id for answer in await answers(call)] == ["a"]


async def test_a_stream_with_no_message_ends_well(world: World) -> None:
    assert await exchanged(world) == []


async def test_a_model_without_a_copy(world: World) -> None:
    told = await refused(exchanged(world, message("dead")))
    assert (told.status, told.reason) == (Code.UNAVAILABLE, "MODEL_NOT_READY")


async def test_a_stream_of_nothing_but_refused_messages_ends(world: World) -> None:
    call = opened(world)
    for _ in range(100):
        await call.write(message("secret"))
        answer = pb.ModelStreamInferResponse.FromString(await asyncio.wait_for(call.read(), 5))
        assert answer.error_message.startswith("NOT_GRANTED")
    # One at a time: a client that still writes when the stream ends may see its own failed write instead of the status.
    await call.write(message("secret"))
    told = await refused(asyncio.wait_for(call.read(), 5))
    assert (told.status, told.reason) == (Code.PERMISSION_DENIED, "NOT_GRANTED")
    got = await exchanged(world, *[message("secret"), message("digits")] * 150)  # while a good one starts anew
    assert len([answer for answer in got if answer.error_message]) == 150


def in_sequence(sequence: int, id: str, *, end: bool = False) -> bytes:
    request = pb.ModelInferRequest(model_name="digits", id=id)
    request.parameters["sequence_id"].int64_param = sequence
    request.parameters["sequence_end"].bool_param = end
    return request.SerializeToString()


async def test_each_sequence_of_a_stream_goes_its_own_way(tmp_path: Path) -> None:
    async with worlds.world(tmp_path, lambda config: config["models"][0].update(sequence=True)) as world:
        sent = [in_sequence(1 + n % 3, str(n)) for n in range(12)]
        got = [answer.infer_response for answer in await exchanged(world, *sent)]
        assert sorted(int(answer.id) for answer in got) == list(range(12))
        streams = [dict(pairs)["x-sequence-id"] for pairs in world.one.metadata]
        assert sorted(Counter(streams).values()) == [4, 4, 4]


async def test_a_stream_whose_copy_fails_says_that_the_sequence_is_lost(tmp_path: Path) -> None:
    async with worlds.world(tmp_path, lambda config: config["models"][0].update(sequence=True)) as world:
        world.one.behaviour[STREAM] = failing(Code.UNAVAILABLE, "10.1.2.3 is down")
        told = await refused(exchanged(world, in_sequence(7, "a")))
    assert (told.status, told.reason, told.retry_after) == (Code.ABORTED, "SEQUENCE_LOST", None)
    assert "sequence 7 " in told.text
    assert "10.1.2.3" not in told.everything


async def test_a_stream_of_too_many_sequences_is_told_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.stream._BRANCHES", 2)
    async with worlds.world(tmp_path, lambda config: config["models"][0].update(sequence=True)) as world:
        got = await exchanged(world, in_sequence(1, "a"), in_sequence(2, "b"), in_sequence(3, "c"), in_sequence(1, "d"))
    assert sorted(answer.infer_response.id for answer in got if not answer.error_message) == ["a", "b", "d"]
    (refused_one,) = [answer for answer in got if answer.error_message]
    assert refused_one.infer_response.id == "c"
    assert refused_one.error_message.startswith("OVERLOADED: one stream carries at most 2")


async def test_sequences_that_have_ended_make_room_for_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.stream._BRANCHES", 2)
    async with worlds.world(tmp_path, lambda config: config["models"][0].update(sequence=True)) as world:
        sent = [in_sequence(number, str(number), end=True) for number in range(1, 21)]
        sent += [in_sequence(20, "again"), in_sequence(21, "last"), in_sequence(22, "over")]
        got = await exchanged(world, *sent)
    answered = {answer.infer_response.id for answer in got if not answer.error_message}
    assert answered == {*map(str, range(1, 21)), "again", "last"}  # the first is in the middle of things again
    assert [answer.infer_response.id for answer in got if answer.error_message] == ["over"]


async def test_sequences_that_workers_do_not_end_are_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """That their caller has ended them makes no room by itself."""
    monkeypatch.setattr("gateway.stream._BRANCHES", 2)
    monkeypatch.setattr("gateway.stream.STUCK", 0.1)
    async with worlds.world(tmp_path, lambda config: config["models"][0].update(sequence=True)) as world:
        world.one.behaviour[STREAM] = hanging(asyncio.Event())
        call = opened(world)
        for number in range(1, 6):
            await call.write(in_sequence(number, str(number), end=True))
        told = pb.ModelStreamInferResponse.FromString(await asyncio.wait_for(call.read(), 10))
        assert told.error_message.startswith("OVERLOADED: one stream carries at most 2")
        assert told.infer_response.id == "5"
        call.cancel()
