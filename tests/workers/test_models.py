"""Loading and unloading while calls run."""

from __future__ import annotations

import asyncio
import shutil
import threading
from pathlib import Path

import grpc
import numpy as np
import pytest

from protos import grpc_service_pb2 as pb
from tests.workers import zoo
from tests.workers.calling import floats, fp32, refused, request
from tests.workers.conftest import World, until

ALL = "version_policy { all { } }"
TIMES = """
class Model:
    def __init__(self, folder, config):
        self.folder = folder.parent

    def infer(self, inputs):
        return {"y": inputs["x"] * FACTOR}

    def close(self):
        (self.folder / "closed-FACTOR").touch()
"""


def times(repository: Path, factor: int, version: int = 1) -> None:
    zoo.python(repository, "times", TIMES.replace("FACTOR", str(factor)), zoo.ONE_IN_ONE_OUT + ALL, version=version)


async def load(world: World, name: str) -> None:
    await world.stub.RepositoryModelLoad(pb.RepositoryModelLoadRequest(model_name=name))


async def unload(world: World, name: str) -> None:
    await world.stub.RepositoryModelUnload(pb.RepositoryModelUnloadRequest(model_name=name))


async def index(world: World, *, ready: bool = False) -> list[tuple[str, str, str, str]]:
    answer = await world.stub.RepositoryIndex(pb.RepositoryIndexRequest(ready=ready))
    return [(one.name, one.version, one.state, one.reason) for one in answer.models]


async def y(world: World, version: str = "") -> tuple[float, str]:
    answer = await world.stub.ModelInfer(request("times", version, x=floats(1)))
    return float(fp32(answer)[0]), answer.model_version


async def test_without_a_version_the_latest_answers(repository: Path, start) -> None:
    for version in (2, 10, 9):
        times(repository, version * 10, version)
    world = await start()
    assert await y(world) == (100, "10")
    assert await y(world, "2") == (20, "2")
    metadata = await world.stub.ModelMetadata(pb.ModelMetadataRequest(name="times"))
    assert list(metadata.versions) == ["2", "9", "10"]
    metadata = await world.stub.ModelMetadata(pb.ModelMetadataRequest(name="times", version="9"))
    assert list(metadata.versions) == ["9"]
    statistics = await world.stub.ModelStatistics(pb.ModelStatisticsRequest(name="times"))
    assert [one.version for one in statistics.model_stats] == ["2", "9", "10"]


async def test_the_policy_is_the_folders(repository: Path, start) -> None:
    for version in (1, 2, 3):
        zoo.add(repository, version=version, config="version_policy { specific { versions: [1, 3] } }")
    world = await start()
    assert await index(world) == [("add", "1", "READY", ""), ("add", "3", "READY", "")]
    seen = await refused(world.stub.ModelReady(pb.ModelReadyRequest(name="add", version="2")))
    assert seen.reason == "VERSION_UNKNOWN"


async def test_a_load_reads_the_folder_anew(repository: Path, start) -> None:
    times(repository, 2)
    world = await start()
    assert await y(world) == (2, "1")
    times(repository, 3)
    times(repository, 5, 2)
    assert await y(world) == (2, "1")
    await load(world, "times")
    assert await y(world, "1") == (3, "1")
    assert await y(world) == (5, "2")
    await until((repository / "times" / "closed-2").exists)
    assert not (repository / "times" / "closed-3").exists()


async def test_running_calls_finish_on_the_version_that_they_began_with(repository: Path, start) -> None:
    gate = zoo.gated(repository)
    world = await start()
    gate.shut()
    running = [asyncio.ensure_future(world.stub.ModelInfer(request("gated", x=floats(at)))) for at in (1, 2)]
    await until(lambda: gate.ran() and world.calls.begun == 2)
    answers_10 = zoo.GATED.replace("* 2", "* 10").replace('"hold"', '"other"')
    zoo.python(repository, "gated", answers_10, zoo.ONE_IN_ONE_OUT)
    await load(world, "gated")
    assert fp32(await world.stub.ModelInfer(request("gated", x=floats(3)))).tolist() == [30]
    assert not running[0].done()
    gate.open()
    assert [fp32(answer)[0] for answer in await asyncio.gather(*running)] == [2, 4]


async def test_unloaded_a_model_takes_no_more_and_finishes_what_it_has(repository: Path, start) -> None:
    gate = zoo.gated(repository)
    world = await start()
    gate.shut()
    running = [asyncio.ensure_future(world.stub.ModelInfer(request("gated", x=floats(at)))) for at in (1, 2)]
    await until(lambda: gate.ran() and world.calls.begun == 2)
    await unload(world, "gated")
    assert await index(world) == [("gated", "1", "UNLOADING", "")]
    assert (await refused(world.stub.ModelInfer(request("gated", x=floats(3))))).reason == "MODEL_NOT_READY"
    gate.open()
    assert [fp32(answer)[0] for answer in await asyncio.gather(*running)] == [2, 4]
    assert sorted(gate.ran()) == ["1", "2"]


async def test_unloaded_a_model_is_unavailable_and_can_come_back(repository: Path, start) -> None:
    times(repository, 2)
    world = await start()
    await unload(world, "times")
    assert await index(world, ready=True) == []
    await until((repository / "times" / "closed-2").exists)
    async with asyncio.timeout(5):
        while await index(world) != [("times", "1", "UNAVAILABLE", "unloaded")]:
            await asyncio.sleep(0.01)
    seen = await refused(world.stub.RepositoryModelUnload(pb.RepositoryModelUnloadRequest(model_name="times")))
    assert seen.reason == "MODEL_NOT_READY"
    await load(world, "times")
    assert await y(world) == (2, "1")


async def test_a_version_that_has_gone_from_the_folder_is_unloaded(repository: Path, start) -> None:
    times(repository, 2, 1)
    times(repository, 3, 2)
    world = await start()
    shutil.rmtree(repository / "times" / "2")
    await load(world, "times")
    assert await y(world) == (2, "1")
    assert (await refused(world.stub.ModelReady(pb.ModelReadyRequest(name="times", version="2")))).reason


@pytest.mark.parametrize(
    ("file", "text", "says"),
    [
        ("config.pbtxt", "ensemble_scheduling { }", "sets ensemble_scheduling, which this worker does not implement"),
        ("1/model.py", "raise OSError('secret')", "model 'times' version 1: model.py cannot be loaded"),
        ("1/model.py", "raise SystemExit(3)", "model 'times' version 1: model.py cannot be loaded"),
        ("1/model.py", "x = 1", "model.py has no class Model"),
    ],
)
async def test_a_load_that_fails_changes_nothing(
    repository: Path, start, caplog: pytest.LogCaptureFixture, file: str, text: str, says: str
) -> None:
    times(repository, 2)
    world = await start()
    (repository / "times" / file).write_text(text)
    call = world.stub.RepositoryModelLoad(pb.RepositoryModelLoadRequest(model_name="times"))
    seen = await refused(call)
    assert (seen.status, seen.reason) == (grpc.StatusCode.FAILED_PRECONDITION, "MODEL_NOT_READY")
    assert says in seen.text
    assert "secret" not in seen.text
    assert str(repository) not in seen.text
    assert await y(world) == (2, "1")
    assert await index(world) == [("times", "1", "READY", "")]
    assert says in caplog.text


async def test_a_version_that_cannot_be_loaded_is_in_the_index_with_its_reason(repository: Path, start) -> None:
    times(repository, 2)
    world = await start()
    zoo.python(repository, "times", "x = 1", zoo.ONE_IN_ONE_OUT + ALL, version=2)
    await refused(world.stub.RepositoryModelLoad(pb.RepositoryModelLoadRequest(model_name="times")))
    (first, second) = await index(world)
    assert first == ("times", "1", "READY", "")
    assert second[:3] == ("times", "2", "UNAVAILABLE")
    assert "no class Model" in second[3]


async def test_a_load_may_fail_as_it_likes(
    repository: Path, start, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    world = await start()
    times(repository, 2)

    def forbidden(*_: object) -> None:
        raise PermissionError("secret")

    with monkeypatch.context() as broken:
        broken.setattr("workers.loading._file", forbidden)
        seen = await refused(world.stub.RepositoryModelLoad(pb.RepositoryModelLoadRequest(model_name="times")))
    says = "model 'times' cannot be loaded; the worker's log says why"
    assert (seen.status, seen.text) == (grpc.StatusCode.FAILED_PRECONDITION, says)
    assert await index(world) == [("times", "1", "UNAVAILABLE", says)]
    assert "PermissionError: secret" in caplog.text
    await load(world, "times")
    assert await index(world) == [("times", "1", "READY", "")]
    with monkeypatch.context() as broken:
        broken.setattr("workers.loading._file", forbidden)
        await refused(world.stub.RepositoryModelLoad(pb.RepositoryModelLoadRequest(model_name="times")))
    assert await index(world) == [("times", "1", "READY", "")]
    assert await y(world) == (2, "1")


async def test_a_folder_that_cannot_be_read_is_unavailable_until_it_can(repository: Path, start) -> None:
    world = await start()
    zoo.add(repository, config="ensemble_scheduling { }")
    await refused(world.stub.RepositoryModelLoad(pb.RepositoryModelLoadRequest(model_name="add")))
    (row,) = await index(world)
    assert row[:3] == ("add", "", "UNAVAILABLE")
    assert "ensemble_scheduling" in row[3]
    zoo.add(repository, config="max_batch_size: 8")
    await load(world, "add")
    assert await index(world) == [("add", "1", "READY", "")]


async def test_the_reason_in_the_index_is_the_last_ones(repository: Path, start) -> None:
    world = await start()
    for code, reason in (("x = 1", "no class Model"), ("1 / 0", "cannot be loaded")):
        zoo.python(repository, "times", code, zoo.ONE_IN_ONE_OUT)
        await refused(world.stub.RepositoryModelLoad(pb.RepositoryModelLoadRequest(model_name="times")))
        ((_, _, state, said),) = await index(world)
        assert state == "UNAVAILABLE"
        assert reason in said


async def test_a_load_that_fails_gives_back_what_it_had_and_leaves_no_thread(repository: Path, start) -> None:
    world = await start()
    times(repository, 2, 1)
    zoo.python(repository, "times", "1 / 0", zoo.ONE_IN_ONE_OUT + ALL, version=2)
    await refused(world.stub.RepositoryModelLoad(pb.RepositoryModelLoadRequest(model_name="times")))
    await until((repository / "times" / "closed-2").exists)
    await until(lambda: not [one for one in threading.enumerate() if one.name.startswith("times-")])


async def test_only_the_models_that_are_named_are_loaded(repository: Path, start) -> None:
    times(repository, 2)
    zoo.add(repository)
    world = await start(models=("add",))
    assert await index(world) == [("add", "1", "READY", ""), ("times", "", "", "")]
    await load(world, "times")
    assert await y(world) == (2, "1")


SLOW_TO_LOAD = """
import time
class Model:
    def __init__(self, folder, config):
        (folder / "loading").touch()
        while not (folder / "go").exists():
            time.sleep(0.002)
    def infer(self, inputs):
        return {"y": inputs["x"] * 7}
"""


async def test_a_load_goes_on_when_its_caller_does_not(repository: Path, start) -> None:
    times(repository, 2)
    world = await start()
    zoo.python(repository, "times", SLOW_TO_LOAD, zoo.ONE_IN_ONE_OUT)
    folder = repository / "times" / "1"
    call = world.stub.RepositoryModelLoad(pb.RepositoryModelLoadRequest(model_name="times"))
    waiting = asyncio.ensure_future(refused(call))
    await until((folder / "loading").exists)
    assert await index(world) == [("times", "1", "LOADING", "")]
    assert await y(world) == (2, "1")
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    (folder / "go").touch()
    async with asyncio.timeout(10):
        while await y(world) != (7, "1"):
            await asyncio.sleep(0.01)
    assert await index(world) == [("times", "1", "READY", "")]


@pytest.mark.parametrize("name", ["", "nope", "..", "../models/add", "add/1", "/etc"])
async def test_names_that_are_no_models(repository: Path, start, name: str) -> None:
    zoo.add(repository)
    world = await start()
    for call in (
        world.stub.RepositoryModelLoad(pb.RepositoryModelLoadRequest(model_name=name)),
        world.stub.RepositoryModelUnload(pb.RepositoryModelUnloadRequest(model_name=name)),
        world.stub.ModelConfig(pb.ModelConfigRequest(name=name)),
    ):
        seen = await refused(call)
        assert (seen.status, seen.reason) == (grpc.StatusCode.NOT_FOUND, "MODEL_UNKNOWN")


@pytest.mark.parametrize("key", ["config", "file:1/model.onnx"])
async def test_a_model_is_what_its_folder_holds(repository: Path, start, key: str) -> None:
    zoo.add(repository)
    world = await start()
    asked = pb.RepositoryModelLoadRequest(model_name="add")
    asked.parameters[key].string_param = "{}"
    seen = await refused(world.stub.RepositoryModelLoad(asked))
    assert seen.reason == "REQUEST_MALFORMED"
    assert f"'{key}'" in seen.text


async def test_unloading_dependents_is_taken(repository: Path, start) -> None:
    zoo.add(repository)
    world = await start()
    asked = pb.RepositoryModelUnloadRequest(model_name="add")
    asked.parameters["unload_dependents"].bool_param = True
    await world.stub.RepositoryModelUnload(asked)
    assert not (await world.stub.ModelReady(pb.ModelReadyRequest(name="add"))).ready


async def test_instances_answer_side_by_side(repository: Path, start) -> None:
    gate = zoo.gated(repository, zoo.ONE_IN_ONE_OUT + "instance_group { count: 2 }")
    world = await start()
    gate.shut()
    calls = [asyncio.ensure_future(world.stub.ModelInfer(request("gated", x=floats(at)))) for at in (1, 2, 3)]
    await until(lambda: len(gate.ran()) == 2 and world.calls.begun == 3)
    gate.open()
    answers = await asyncio.gather(*calls)
    assert [float(np.squeeze(fp32(one))) for one in answers] == [2, 4, 6]
