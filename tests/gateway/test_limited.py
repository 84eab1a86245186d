"""What callers see of limits, on both lanes."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import pytest

from protos import grpc_service_pb2 as pb
from tests.envoy import ENVOY, needs_envoy
from tests.gateway import world as worlds
from tests.gateway.test_service import refused
from tests.gateway.world import INFER, STREAM, World, hanging, refusal
from tests.headrace.test_express import carried
from tests.headrace.test_siblings import taken

Code = grpc.StatusCode
MESSAGE = pb.ModelInferRequest(model_name="digits", id="7").SerializeToString()
LANES = [pytest.param(True, id="express", marks=pytest.mark.skipif(ENVOY is None, reason="no envoy")), False]


def limited(**limits: Any) -> Callable[[dict[str, Any]], None]:
    """Callers with the scope `few` have `digits` and `shared` within these limits."""

    def change(config: dict[str, Any]) -> None:
        to = {"issuer": config["issuers"][0]["issuer"], "claims": {"scope": "few"}}
        grant = {"to": to, "models": ["digits", "shared", "dead"], "actions": ["infer", "inspect"], "limits": limits}
        config["grants"].append(grant)

    return change


@contextlib.asynccontextmanager
async def with_limits(folder: Path, *, express: bool = False, **limits: Any) -> AsyncIterator[World]:
    async with worlds.world(folder, limited(**limits), express=express) as made:
        yield made


async def one(world: World, message: bytes = MESSAGE, **claims: Any) -> grpc.RpcError | None:
    """A call, and how it was refused."""
    metadata = [world.bearer(**{"scope": "few"} | claims)]
    try:
        await world.channel.unary_unary(INFER)(message, metadata=metadata, timeout=10)
    except grpc.RpcError as error:
        return error
    return None


async def hammered(world: World, message: bytes = MESSAGE) -> tuple[Counter[str], float]:
    """What becomes of calls without a pause, for two seconds and a little."""
    outcomes: Counter[str] = Counter()
    await one(world, message, sub="another")  # opens what is to be opened
    began = time.monotonic()

    async def call_and_call() -> None:
        while time.monotonic() < began + 2:
            error = await one(world, message)
            outcomes["OK" if error is None else str(refusal(error).reason)] += 1

    await asyncio.gather(*(call_and_call() for _ in range(8)))
    return outcomes, time.monotonic() - began


@pytest.mark.parametrize("express", LANES)
async def test_no_more_calls_go_than_the_rate_and_the_burst(tmp_path: Path, express: bool) -> None:
    async with with_limits(tmp_path, express=express, rate="100/s", burst=50) as world:
        outcomes, took = await hammered(world)
        assert outcomes.keys() == {"OK", "RATE_LIMITED"}
        assert outcomes["OK"] <= 50 + 100 * took + 1
        assert outcomes["OK"] >= (50 + 100 * took) * 0.7  # the lane may lose some that it had in advance
        assert await one(world, sub="another") is None


@needs_envoy
async def test_several_processes_count_together(tmp_path: Path) -> None:
    def two(config: dict[str, Any]) -> None:
        config["listen"]["processes"] = 2
        limited(rate="50/s", burst=20)(config)

    async with worlds.world(tmp_path, two, express=True) as world:
        outcomes, took = await hammered(world, with_number("priority", 1))
        assert len(await taken(world)) == 2
        assert outcomes.keys() == {"OK", "RATE_LIMITED"}
        assert 0.8 * (20 + 50 * 2) <= outcomes["OK"] <= 20 + 50 * took + 1


async def test_who_waits_as_told_is_let_through(tmp_path: Path) -> None:
    async with with_limits(tmp_path, rate="5/s", burst=1) as world:
        assert await one(world) is None
        error = await one(world)
        assert error is not None
        found = refusal(error)
        assert (found.status, found.reason) == (Code.RESOURCE_EXHAUSTED, "RATE_LIMITED")
        assert found.retry_after is not None
        assert 0 < found.retry_after <= 0.2
        await asyncio.sleep(found.retry_after)  # what is told is what is tested
        assert await one(world) is None


@needs_envoy
async def test_the_lane_carries_calls_that_are_counted(tmp_path: Path) -> None:
    async with with_limits(tmp_path, express=True, rate="100000/s") as world:
        async with asyncio.timeout(20):
            while await carried(world) < 200:
                assert await one(world) is None


async def test_calls_at_a_time_are_bounded(tmp_path: Path) -> None:
    async with with_limits(tmp_path, concurrency=2) as world:
        reached = asyncio.Event()
        world.one.behaviour[INFER] = hanging(reached)
        running = [asyncio.create_task(one(world)) for _ in range(2)]
        async with asyncio.timeout(10):
            while len(world.one.calls) < 2:
                await asyncio.sleep(0.01)
        error = await one(world)
        assert error is not None
        assert refusal(error).reason == "RATE_LIMITED"
        assert refusal(error).text == "you may have 2 calls of this model at a time"
        del world.one.behaviour[INFER]
        assert await one(world, sub="another") is None
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)
        async with asyncio.timeout(10):
            while await one(world) is not None:
                await asyncio.sleep(0.01)


@pytest.mark.parametrize("express", LANES)
async def test_a_message_over_the_callers_size_is_too_large(tmp_path: Path, express: bool) -> None:
    async with with_limits(tmp_path, express=express, request="1kB") as world:
        big = pb.ModelInferRequest(model_name="digits", raw_input_contents=[bytes(1000)]).SerializeToString()
        for _ in range(3):
            assert await one(world) is None
            error = await one(world, big)
            assert error is not None
            assert refusal(error).reason == "TOO_LARGE"
        assert await one(world, big, scope="all") is None


def with_number(name: str, value: int) -> bytes:
    request = pb.ModelInferRequest(model_name="digits")
    request.parameters[name].int64_param = value
    return request.SerializeToString()


@pytest.mark.parametrize("express", LANES)
async def test_priority_is_bounded_by_the_grant(tmp_path: Path, express: bool) -> None:
    async with with_limits(tmp_path, express=express, priority=3) as world:
        for asked, got in [(None, 3), (0, 3), (1, 3), (3, 3), (5, 3), (2**40, 3)]:
            message = MESSAGE if asked is None else with_number("priority", asked)
            for _ in range(2):
                assert await one(world, message) is None
                request = pb.ModelInferRequest.FromString(world.one.infers()[-1])
                assert request.parameters["priority"].int64_param == got
            assert await one(world, message, scope="all") is None
            assert world.one.infers()[-1] == message


async def test_models_that_there_are_not_are_not_counted(tmp_path: Path) -> None:
    """Callers may think of any number of them, and each count would take a place."""
    async with with_limits(tmp_path, rate="1/m", burst=1) as world:
        unknown = pb.ModelInferRequest(model_name="ghost").SerializeToString()
        world.configure(lambda config: config["grants"][-1].update(models=["digits", "gh*"]))
        async with asyncio.timeout(10):
            while refusal(await one(world, unknown)).reason != "MODEL_UNKNOWN":
                await asyncio.sleep(0.02)
        assert {refusal(await one(world, unknown)).reason for _ in range(5)} == {"MODEL_UNKNOWN"}


async def test_a_call_that_goes_to_every_copy_counts_once(tmp_path: Path) -> None:
    async with with_limits(tmp_path, rate="1/m", burst=2) as world:
        statistics = pb.ModelStatisticsRequest(name="digits").SerializeToString()
        for worker in world.workers.values():
            worker.behaviour["/inference.GRPCInferenceService/ModelStatistics"] = nothing
        metadata = [world.bearer(scope="few")]
        for _ in range(2):
            await world.call("ModelStatistics", statistics, metadata=metadata)
        assert (await refused(world.call("ModelStatistics", statistics, metadata=metadata))).reason == "RATE_LIMITED"
        assert [len(worker.calls) for worker in world.workers.values()] == [2, 2]


async def nothing(_message: bytes, _context: grpc.aio.ServicerContext) -> bytes:
    return b""


@needs_envoy
async def test_what_the_lane_is_lent_does_not_pile_up(tmp_path: Path) -> None:
    async with with_limits(tmp_path, express=True, rate="100/s", burst=100) as world:
        metadata = [world.bearer(scope="few")]
        waiting = [world.channel.stream_unary(INFER)(metadata=metadata, timeout=29) for _ in range(30)]
        await asyncio.gather(*(call.wait_for_connection() for call in waiting))
        for call in waiting:  # each of which brings a lesson
            await call.write(MESSAGE)
            await call.done_writing()
            await call
            await asyncio.sleep(0.05)  # as often as calls are lent
        began, answered = time.monotonic(), 0

        async def until_refused() -> None:
            nonlocal answered
            while await one(world) is None:
                answered += 1

        await asyncio.gather(*(until_refused() for _ in range(8)))
        assert answered <= 100 + 25 + 100 * (time.monotonic() - began) + 1


async def test_priority_of_a_call_that_only_asks_is_not_written(tmp_path: Path) -> None:
    async with with_limits(tmp_path, priority=3) as world:
        message = pb.ModelReadyRequest(name="digits").SerializeToString()
        await world.call("ModelReady", message, metadata=[world.bearer(scope="few")])
        assert world.one.calls[-1][1] == message


async def test_of_a_stream_each_message_is_counted(tmp_path: Path) -> None:
    async with with_limits(tmp_path, rate="1/m", burst=2, concurrency=1) as world:
        metadata = [world.bearer(scope="few")]
        call = world.channel.stream_stream(STREAM)(metadata=metadata, timeout=10)
        answers = []
        for _ in range(3):
            await call.write(MESSAGE)
            answers.append(pb.ModelStreamInferResponse.FromString(await call.read()).error_message)
        assert answers[:2] == ["", ""]
        assert answers[2].startswith("RATE_LIMITED: you may make")
        assert await one(world, sub="another") is None
        await call.done_writing()
        assert await call.read() is grpc.aio.EOF


async def test_a_stream_counts_as_one_that_runs_with_each_model(tmp_path: Path) -> None:
    async with with_limits(tmp_path, concurrency=1) as world:
        call = world.channel.stream_stream(STREAM)(metadata=[world.bearer(scope="few")], timeout=10)
        for _ in range(3):
            await call.write(MESSAGE)
            assert not pb.ModelStreamInferResponse.FromString(await call.read()).error_message
        assert (await one(world)) is not None
        await call.done_writing()
        assert await call.read() is grpc.aio.EOF
        async with asyncio.timeout(10):
            while await one(world) is not None:
                await asyncio.sleep(0.01)


# ---- how many a model bears ----


def admitting(config: dict[str, Any]) -> None:
    (digits,) = (model for model in config["models"] if model["name"] == "digits")
    digits["admission"] = {"floor": 2, "ceiling": 2, "queue": "20ms"}


@pytest.mark.parametrize("express", LANES)
async def test_a_model_that_is_full_is_spared(tmp_path: Path, express: bool) -> None:
    async with worlds.world(tmp_path, admitting, express=express) as world:
        reached = asyncio.Event()
        world.one.behaviour[INFER] = hanging(reached)
        running = [asyncio.create_task(one(world, scope="all", sub=name)) for name in ("a", "b")]
        async with asyncio.timeout(10):
            while len(world.one.infers()) < 2:
                await asyncio.sleep(0.01)
        error = await refused(world.channel.unary_unary(INFER)(MESSAGE, metadata=[world.bearer(sub="c")], timeout=10))
        assert (error.status, error.reason) == (Code.RESOURCE_EXHAUSTED, "OVERLOADED")
        assert error.retry_after is not None
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)
        del world.one.behaviour[INFER]
        async with asyncio.timeout(10):
            while await one(world, scope="all") is not None:
                await asyncio.sleep(0.01)


# ---- how long a request may queue ----


def timed(config: dict[str, Any]) -> None:
    (digits,) = (model for model in config["models"] if model["name"] == "digits")
    digits["timeout_parameter"] = True


@pytest.mark.parametrize("express", LANES)
async def test_what_time_is_left_is_told_to_the_worker(tmp_path: Path, express: bool) -> None:
    async with worlds.world(tmp_path, timed, express=express) as world:
        for seconds in (3.0, None):
            for _ in range(2):
                call = world.channel.unary_unary(INFER)
                await call(MESSAGE, metadata=[world.bearer()], timeout=seconds)
                request = pb.ModelInferRequest.FromString(world.one.infers()[-1])
                told = request.parameters["timeout"].int64_param / 1e6
                assert 1 < told <= (seconds or 5.0) + 0.1  # which the model has
                del request.parameters["timeout"]
                assert request == pb.ModelInferRequest.FromString(MESSAGE)
        own = with_number("timeout", 17)
        await world.channel.unary_unary(INFER)(own, metadata=[world.bearer()], timeout=10)
        assert world.one.infers()[-1] == own


async def test_a_parameter_that_is_named_twice_is_malformed(tmp_path: Path) -> None:
    async with with_limits(tmp_path) as world:
        entry = with_number("priority", 1)[len(pb.ModelInferRequest(model_name="digits").SerializeToString()) :]
        message = pb.ModelInferRequest(model_name="digits").SerializeToString() + entry + entry
        error = await one(world, message, scope="all")
        assert error is not None
        assert refusal(error).reason == "REQUEST_MALFORMED"
        assert "priority occurs twice" in refusal(error).text
