"""Calls that concern several services."""

from collections.abc import Awaitable, Callable

import grpc
import grpc.aio
import pytest

from protos import grpc_service_pb2 as pb
from tests.gateway.test_service import refused
from tests.gateway.world import SERVICE, World, failing

Code = grpc.StatusCode
INDEX = SERVICE + "RepositoryIndex"
STATISTICS = SERVICE + "ModelStatistics"
LOAD = SERVICE + "RepositoryModelLoad"


def answering(message: object) -> Callable[..., Awaitable[bytes]]:
    async def answer(_message: bytes, _context: grpc.aio.ServicerContext) -> bytes:
        return message.SerializeToString()  # type: ignore[attr-defined]

    return answer


def index(*rows: tuple[str, str]) -> pb.RepositoryIndexResponse:
    models = [
        pb.RepositoryIndexResponse.ModelIndex(name=name, version=version, state="READY") for name, version in rows
    ]
    return pb.RepositoryIndexResponse(models=models)


@pytest.fixture
def indexed(world: World) -> World:
    world.one.behaviour[INDEX] = answering(index(("digits", "1"), ("secret", "1"), ("shared", "1"), ("stray", "1")))
    world.two.behaviour[INDEX] = answering(index(("digits", "2"), ("digits", "1")))
    return world


async def rows(world: World, **claims: str) -> list[tuple[str, str]]:
    answer = pb.RepositoryIndexResponse.FromString(await world.call("RepositoryIndex", b"", **claims))
    return [(row.name, row.version) for row in answer.models]


async def test_the_index_is_merged_and_shows_what_the_caller_may_inspect(indexed: World) -> None:
    assert sorted(await rows(indexed)) == [("dead", "1"), ("digits", "1"), ("digits", "2"), ("shared", "1")]
    assert sorted(await rows(indexed, scope="digits")) == [("digits", "1"), ("digits", "2")]
    assert ("secret", "1") in await rows(indexed, scope="manage")  # the row was there to be seen
    assert (await refused(rows(indexed, scope="nothing"))).reason == "NOT_GRANTED"


async def test_each_copy_is_asked_once_whatever_it_holds(indexed: World) -> None:
    await rows(indexed)
    assert [len(worker.calls) for worker in indexed.workers.values()] == [1, 1]


async def test_a_copy_that_is_down_is_told_of_in_the_index(indexed: World) -> None:
    indexed.two.behaviour[INDEX] = failing(Code.UNAVAILABLE)
    answer = pb.RepositoryIndexResponse.FromString(await indexed.call("RepositoryIndex", b""))
    assert sorted((row.name, row.version, row.state, row.reason) for row in answer.models) == [
        ("dead", "1", "UNKNOWN", "no answer from 1 of 1 copies"),
        ("digits", "1", "READY", ""),
        ("digits", "2", "UNKNOWN", "no answer from 1 of 1 copies"),
        ("shared", "1", "READY", ""),
    ]
    ready = pb.RepositoryIndexRequest(ready=True).SerializeToString()
    answer = pb.RepositoryIndexResponse.FromString(await indexed.call("RepositoryIndex", ready))
    assert sorted((row.name, row.version) for row in answer.models) == [("digits", "1"), ("shared", "1")]
    assert not pb.RepositoryIndexRequest.FromString(indexed.one.calls[-1][1]).ready
    indexed.one.behaviour[INDEX] = failing(Code.UNAVAILABLE)
    assert (await refused(rows(indexed))).reason == "MODEL_NOT_READY"


async def test_statistics_of_one_model_come_from_all_its_copies(world: World) -> None:
    for version, worker in world.workers.items():
        stats = [pb.ModelStatistics(name=name, version=version, inference_count=3) for name in ("digits", "secret")]
        worker.behaviour[STATISTICS] = answering(pb.ModelStatisticsResponse(model_stats=stats))

    async def asked(version: str) -> list[tuple[str, str]]:
        message = pb.ModelStatisticsRequest(name="digits", version=version).SerializeToString()
        answer = pb.ModelStatisticsResponse.FromString(await world.call("ModelStatistics", message))
        return sorted((row.name, row.version) for row in answer.model_stats)

    assert await asked("") == [("digits", "1"), ("digits", "2")]
    assert await asked("canary") == [("digits", "2")]
    assert pb.ModelStatisticsRequest.FromString(world.two.calls[-1][1]).version == "2"


async def test_a_load_reaches_every_copy(world: World) -> None:
    for worker in world.workers.values():
        worker.behaviour[LOAD] = answering(pb.RepositoryModelLoadResponse())
    message = pb.RepositoryModelLoadRequest(model_name="digits").SerializeToString()
    assert (await refused(world.call("RepositoryModelLoad", message))).reason == "NOT_GRANTED"
    assert not world.one.calls
    await world.call("RepositoryModelLoad", message, scope="manage:digits")
    assert [len(worker.calls) for worker in world.workers.values()] == [1, 1]

    world.two.behaviour[LOAD] = failing(Code.INVALID_ARGUMENT, "no such file")
    told = await refused(world.call("RepositoryModelLoad", message, scope="manage:digits"))
    assert (told.status, told.reason) == (Code.INVALID_ARGUMENT, None)
    assert told.text == "1 of 2 copies failed: digits 2, copy 1: no such file"


FURTHER = [
    pb.RepositoryModelLoadRequest(
        model_name="digits", parameters={"config": pb.ModelRepositoryParameter(string_param="")}
    ),
    pb.RepositoryModelUnloadRequest(
        model_name="digits", parameters={"unload_dependents": pb.ModelRepositoryParameter(bool_param=True)}
    ),
    pb.TraceSettingRequest(
        model_name="digits", settings={"trace_file": pb.TraceSettingRequest.SettingValue(value=["/tmp/t"])}
    ),
]


@pytest.mark.parametrize("message", FURTHER, ids=lambda message: type(message).__name__)
async def test_what_reaches_further_than_a_model_takes_a_grant_for_all_beside_it(
    world: World, message: pb.TraceSettingRequest
) -> None:
    method = type(message).__name__.removesuffix("Request")
    for worker in world.workers.values():
        worker.behaviour[SERVICE + method] = answering(pb.LogSettingsResponse())
    told = await refused(world.call(method, message.SerializeToString(), scope="manage:digits"))
    assert told.reason == "NOT_GRANTED"
    assert not world.one.calls
    await world.call(method, message.SerializeToString(), scope="manage")
    assert world.one.calls
    harmless = type(message)(model_name="digits")
    await world.call(method, harmless.SerializeToString(), scope="manage:digits")


@pytest.mark.parametrize(
    "method", ["LogSettings", "SystemSharedMemoryRegister", "CudaSharedMemoryStatus", "TraceSetting"]
)
async def test_what_is_set_for_a_whole_server_takes_a_grant_for_all_its_models(world: World, method: str) -> None:
    for worker in world.workers.values():
        worker.behaviour[SERVICE + method] = answering(pb.LogSettingsResponse())
    assert (await refused(world.call(method, b""))).reason == "NOT_GRANTED"
    # The second worker holds digits alone, the first one other models, too.
    await world.call(method, b"", scope="manage:digits")
    assert [len(worker.calls) for worker in world.workers.values()] == [0, 1]


async def test_a_whole_server_call_reaches_every_server_of_who_may_manage_all(world: World) -> None:
    for worker in world.workers.values():
        worker.behaviour[SERVICE + "LogSettings"] = answering(pb.LogSettingsResponse())
    told = await refused(world.call("LogSettings", b"", scope="manage"))
    assert told.reason == "MODEL_NOT_READY"  # `dead` has no copy: nothing is done by halves in silence
    assert [len(worker.calls) for worker in world.workers.values()] == [1, 1]


async def test_an_answer_that_cannot_be_read_is_ours_to_explain(indexed: World) -> None:
    async def noise(_message: bytes, _context: grpc.aio.ServicerContext) -> bytes:
        return b"\x0a\xff"

    indexed.one.behaviour[INDEX] = noise
    assert (await refused(rows(indexed))).reason == "INTERNAL"
