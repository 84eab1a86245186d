"""What every copy must get: each gets it, and the caller hears of those that did not do it."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import pytest
from grpc_health.v1 import health_pb2

from gateway.every_copy import at_a_time
from protos import grpc_service_pb2 as pb
from tests.gateway import world as worlds
from tests.gateway.test_gather import answering
from tests.gateway.test_service import refused
from tests.gateway.world import (
    SERVICE,
    Behaviour,
    Worker,
    World,
    failing,
    hanging,
    nobody_at,
    running,
    unused_address,
)

Code = grpc.StatusCode
LOAD = "RepositoryModelLoad"
OF_DIGITS = pb.RepositoryModelLoadRequest(model_name="digits").SerializeToString()


@contextlib.asynccontextmanager
async def copies(folder: Path, *workers: Worker, more: tuple[str, ...] = ()) -> AsyncIterator[World]:
    """A world in which `digits` has one version, with these copies and `more` addresses."""
    async with contextlib.AsyncExitStack() as stack:
        for worker in workers:
            for method in (LOAD, "TraceSetting", "LogSettings", "SystemSharedMemoryRegister"):
                worker.behaviour.setdefault(SERVICE + method, answering(pb.RepositoryModelLoadResponse()))
            await stack.enter_async_context(running(worker))

        def change(config: dict[str, Any]) -> None:
            config["models"] = [
                {**model, "versions": {"1": {}}, "aliases": {}, "traffic": {}, "timeout": "300ms"}
                for model in config["models"]
                if model["name"] == "digits"
            ]
            config["grants"] = [{**one, "models": ["digits"]} for one in config["grants"]]
            config["upstream"]["endpoints"] = {"digits": {"1": [*(each.address for each in workers), *more]}}

        yield await stack.enter_async_context(worlds.world(folder, change))


def behaving(behaviour: Behaviour, method: str = LOAD) -> Worker:
    return Worker({SERVICE + method: behaviour})


def reached(*workers: Worker) -> list[int]:
    return [len(worker.calls) for worker in workers]


async def told(world: World, method: str, message: bytes) -> str:
    """How many copies of how many, as the answer's metadata says."""
    call = world.channel.unary_unary(SERVICE + method)(message, metadata=[world.bearer(scope="manage")], timeout=10)
    await call
    return str(dict(await call.initial_metadata())["x-headrace-copies"])


# ---- each gets it ----


async def test_a_load_reaches_every_copy_byte_for_byte(tmp_path: Path) -> None:
    message = (
        pb.RepositoryModelLoadRequest(
            model_name="digits",
            parameters={
                "config": pb.ModelRepositoryParameter(string_param='{"backend": "python"}'),
                "file:1/model.onnx": pb.ModelRepositoryParameter(bytes_param=bytes(range(256)) * 100),
            },
        ).SerializeToString()
        + b"\x9a\x06\x01x"
    )  # and a field that nobody here knows
    workers = Worker(), Worker(), Worker()
    async with copies(tmp_path, *workers) as world:
        assert await told(world, LOAD, message) == "3/3"
    assert [[sent for _, sent, _ in worker.calls] for worker in workers] == [[message]] * 3


@pytest.mark.parametrize("method", ["TraceSetting", "LogSettings", "SystemSharedMemoryRegister"])
async def test_settings_reach_every_copy(tmp_path: Path, method: str) -> None:
    workers = Worker(), Worker()
    async with copies(tmp_path, *workers) as world:
        assert await told(world, method, b"") == "2/2"
    assert reached(*workers) == [1, 1]


async def test_a_copy_that_takes_no_inference_is_told_too(tmp_path: Path) -> None:
    """What is to be loaded may be what it waits for. Inference goes by its health."""
    waiting = Worker(health=health_pb2.HealthCheckResponse.NOT_SERVING)
    other = Worker()
    async with copies(tmp_path, waiting, other) as world:
        await world.call(LOAD, OF_DIGITS, scope="manage")
        for _ in range(5):
            await world.infer()
    assert (reached(waiting, other), len(waiting.infers())) == ([1, 6], 0)


async def test_copies_are_asked_at_the_same_time_but_so_many_at_a_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    running_now, most = 0, 0

    async def count(_message: bytes, _context: grpc.aio.ServicerContext) -> bytes:
        nonlocal running_now, most
        running_now += 1
        most = max(most, running_now)
        await asyncio.sleep(0.1)
        running_now -= 1
        return b""

    async with copies(tmp_path, *(behaving(count) for _ in range(5))) as world:
        await world.call(LOAD, OF_DIGITS, scope="manage")
        assert most == 5
        most = 0
        monkeypatch.setattr("gateway.every_copy._AT_A_TIME", 2)
        await world.call(LOAD, OF_DIGITS, scope="manage")
        assert most == 2


@pytest.mark.parametrize(("size", "copies"), [(0, 32), (8 * 2**20, 32), (64 * 2**20, 4), (200 * 2**20, 1), (2**31, 1)])
def test_a_large_message_is_held_a_few_times_at_most(size: int, copies: int) -> None:
    assert at_a_time(size) == copies


async def test_copies_that_answer_differently_are_noted(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    setting = pb.TraceSettingResponse.SettingValue(value=["OFF"])
    workers = [
        behaving(answering(pb.TraceSettingResponse(settings=settings)), "TraceSetting")
        for settings in ({}, {"trace_level": setting})
    ]
    async with copies(tmp_path, *workers) as world:
        await world.call("TraceSetting", b"", scope="manage")
    assert "the copies answer differently" in caplog.text


# ---- who did not do it ----


async def test_a_copy_that_fails_fails_the_call_and_is_named_without_its_address(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    dead = unused_address()
    workers = Worker(), behaving(failing(Code.INVALID_ARGUMENT, "no such file"))
    async with copies(tmp_path, *workers, more=(dead,)) as world:
        error = await refused(world.call(LOAD, OF_DIGITS, scope="manage"))
    assert (error.status, error.reason) == (Code.INVALID_ARGUMENT, None)  # for which waiting is no help
    assert error.text == ("2 of 3 copies failed: digits 1, copy 2: no such file. digits 1, copy 3: it does not answer")
    assert reached(*workers) == [1, 1]
    for address in (workers[1].address, dead):
        assert address not in error.everything
        assert address in caplog.text


async def test_a_copy_that_is_down_is_worth_another_try(tmp_path: Path) -> None:
    async with copies(tmp_path, Worker(), more=(unused_address(),)) as world:
        error = await refused(world.call(LOAD, OF_DIGITS, scope="manage"))
    assert (error.status, error.reason, error.retry_after) == (Code.UNAVAILABLE, "MODEL_NOT_READY", 1.0)
    assert error.text == "1 of 2 copies failed: digits 1, copy 2: it does not answer"


async def test_what_all_copies_say_is_said_once(tmp_path: Path) -> None:
    workers = [behaving(failing(Code.NOT_FOUND, "no such model")) for _ in range(3)]
    async with copies(tmp_path, *workers) as world:
        error = await refused(world.call(LOAD, OF_DIGITS, scope="manage"))
    assert (error.status, error.text) == (Code.NOT_FOUND, "3 of 3 copies failed: no such model")


async def test_what_the_only_copy_says_is_the_answer(tmp_path: Path) -> None:
    async with copies(tmp_path, behaving(failing(Code.NOT_FOUND, "no such model"))) as world:
        error = await refused(world.call(LOAD, OF_DIGITS, scope="manage"))
    assert (error.status, error.text) == (Code.NOT_FOUND, "no such model")


async def test_many_failures_make_no_long_answer(tmp_path: Path) -> None:
    workers = [behaving(failing(Code.ABORTED, f"{number} " + "word " * 400)) for number in range(8)]
    with nobody_at(20) as dead:
        async with copies(tmp_path, *workers, more=dead) as world:
            error = await refused(world.call(LOAD, OF_DIGITS, scope="manage"))
    assert error.text.startswith("28 of 28 copies failed: digits 1, copy 1: 0 word")
    assert error.text.endswith(". and others")
    assert len(error.text) < 2000


# ---- time ----


async def test_a_load_may_take_longer_than_inference(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def slowly(_message: bytes, _context: grpc.aio.ServicerContext) -> bytes:
        await asyncio.sleep(0.4)  # the model's timeout is 300 ms
        return b""

    async with copies(tmp_path, behaving(slowly)) as world:
        await world.call(LOAD, OF_DIGITS, scope="manage", timeout=None)
        monkeypatch.setattr("gateway.every_copy._CHANGES_WITHIN", 0.2)
        error = await refused(world.call(LOAD, OF_DIGITS, scope="manage", timeout=None))
    assert (error.status, error.reason) == (Code.DEADLINE_EXCEEDED, "DEADLINE")


@pytest.mark.parametrize("kept", [True, False])
async def test_a_copy_that_hangs_is_named_before_the_callers_time_is_up(
    tmp_path: Path, kept: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not kept:
        monkeypatch.setattr("gateway.every_copy._TO_TELL", -1.0)
    workers = Worker(), behaving(hanging(asyncio.Event()))
    async with copies(tmp_path, *workers) as world:
        error = await refused(world.call(LOAD, OF_DIGITS, scope="manage", timeout=1.0))
    assert error.status is Code.DEADLINE_EXCEEDED
    assert (error.text == "1 of 2 copies failed: digits 1, copy 2: time is up") is kept


# ---- who merely looks ----


def counting(executions: int) -> Worker:
    row = pb.ModelStatistics(name="digits", version="1", execution_count=executions)
    return behaving(answering(pb.ModelStatisticsResponse(model_stats=[row])), "ModelStatistics")


async def test_statistics_are_summed_over_the_copies_that_answer(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    dead = unused_address()
    async with copies(tmp_path, counting(3), counting(4), more=(dead,)) as world:
        for _ in range(3):
            answer = pb.ModelStatisticsResponse.FromString(await world.call("ModelStatistics", b""))
        assert await told(world, "ModelStatistics", b"") == "2/3"
    assert [row.execution_count for row in answer.model_stats] == [7]
    assert len([one for one in caplog.records if dead in one.getMessage()]) <= 1  # who polls does not fill the log


async def test_a_copy_that_hangs_keeps_nobody_from_the_others_answers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateway.every_copy._LOOKS_WITHIN", 0.5)
    stuck = behaving(hanging(asyncio.Event()), "ModelStatistics")
    async with copies(tmp_path, counting(3), stuck) as world:
        assert await told(world, "ModelStatistics", b"") == "1/2"


# ---- shared memory ----

REGISTER = pb.SystemSharedMemoryRegisterRequest(name="r", key="/r", byte_size=64).SerializeToString()


def in_shared_memory() -> bytes:
    request = pb.ModelInferRequest(model_name="digits")
    request.inputs.add(name="x").parameters["shared_memory_region"].string_param = "r"
    return request.SerializeToString()


async def extensions(world: World) -> set[str]:
    answer = pb.ServerMetadataResponse.FromString(await world.call("ServerMetadata", b""))
    assert answer.name == "headrace"
    return set(answer.extensions)


async def test_memory_is_shared_on_this_machine_with_who_may_manage(tmp_path: Path) -> None:
    workers = Worker(), Worker()
    async with copies(tmp_path, *workers) as world:
        await world.call("SystemSharedMemoryRegister", REGISTER, scope="manage")
        await world.call("ModelInfer", in_shared_memory(), scope="manage")
        assert (await refused(world.call("ModelInfer", in_shared_memory()))).reason == "SHARED_MEMORY_REFUSED"
        assert (await refused(world.call("SystemSharedMemoryRegister", REGISTER))).reason == "NOT_GRANTED"
        assert {"system_shared_memory", "cuda_shared_memory"} < await extensions(world)
    assert sum(reached(*workers)) == 3


async def test_memory_is_not_shared_where_one_copy_may_be_elsewhere(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    worker = Worker()
    async with copies(tmp_path, worker, more=("192.0.2.1:8001",)) as world:
        for kind in ("System", "Cuda"):
            for what in ("Register", "Unregister", "Status"):
                error = await refused(world.call(f"{kind}SharedMemory{what}", b"", scope="manage"))
                assert (error.status, error.reason) == (Code.INVALID_ARGUMENT, "SHARED_MEMORY_REFUSED")
        error = await refused(world.call("ModelInfer", in_shared_memory(), scope="manage"))
        assert (error.status, error.reason) == (Code.INVALID_ARGUMENT, "SHARED_MEMORY_REFUSED")
        found = await extensions(world)
    assert {"sequence", "statistics", "model_repository", "schedule_policy", "classification"} < found
    assert not any("shared_memory" in each for each in found)
    assert not worker.calls


async def test_a_stream_shares_memory_by_the_same_rule(tmp_path: Path) -> None:
    async with copies(tmp_path, Worker(), more=("192.0.2.1:8001",)) as world:
        stream = world.channel.stream_stream(worlds.STREAM)(metadata=[world.bearer(scope="manage")], timeout=10)
        await stream.write(in_shared_memory())
        answer = pb.ModelStreamInferResponse.FromString(await stream.read())
        await stream.done_writing()
    assert answer.error_message.startswith("SHARED_MEMORY_REFUSED")
