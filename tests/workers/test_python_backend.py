"""Models written in Python: the contract, both ways."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path

import numpy as np
import pytest

from protos import grpc_service_pb2 as pb
from tests.workers import zoo
from tests.workers.calling import floats, fp32, refused, request
from tests.workers.conftest import until
from workers.tensors import from_raw, to_raw

SEES = """
from dataclasses import dataclass
from pathlib import Path

import numpy as np

@dataclass
class Model:
    folder: Path
    config: dict

    def infer(self, inputs):
        assert isinstance(self.folder, Path) and (self.folder / "model.py").exists()
        assert self.config["name"] == "sees" and self.config["max_batch_size"] == 4
        assert self.config["parameters"]["greeting"]["string_value"] == "hello"
        names = inputs["name"]
        assert names.dtype == object and all(isinstance(name, bytes) for name in names.ravel())
        greeted = np.array([[b"hello " + name for name in row] for row in names], dtype=object)
        return {"greeting": greeted, "count": np.array([[len(row)] for row in names], dtype=np.int32)}
"""
CONFIG = """
max_batch_size: 4
input { name: "name" data_type: TYPE_STRING dims: -1 }
output { name: "greeting" data_type: TYPE_STRING dims: -1 }
output { name: "count" data_type: TYPE_INT32 dims: 1 }
parameters { key: "greeting" value { string_value: "hello" } }
"""


async def test_the_contract(repository: Path, start) -> None:
    zoo.python(repository, "sees", SEES, CONFIG)
    world = await start()
    names = np.array([[b"a", b"\xff"], [b"", b"d"]], np.object_)
    asked = pb.ModelInferRequest(model_name="sees", raw_input_contents=[to_raw(names, "BYTES")])
    asked.inputs.add(name="name", datatype="BYTES", shape=[2, 2])
    answer = await world.stub.ModelInfer(asked)
    greeted = from_raw("greeting", "BYTES", (2, 2), answer.raw_output_contents[0])
    assert greeted.tolist() == [[b"hello a", b"hello \xff"], [b"hello ", b"hello d"]]
    assert from_raw("count", "INT32", (2, 1), answer.raw_output_contents[1]).tolist() == [[2], [2]]
    metadata = await world.stub.ModelMetadata(pb.ModelMetadataRequest(name="sees"))
    assert metadata.platform == "python"
    assert not list((repository / "sees").rglob("__pycache__"))


SAYS = """
import grpc
from protos.errors import HeadraceError

class Model:
    def __init__(self, folder, config): ...
    def infer(self, inputs):
        raise HeadraceError(grpc.StatusCode.FAILED_PRECONDITION, None, "feed me first", private="hungry")
"""


async def test_a_model_can_refuse_in_its_own_words(repository: Path, start) -> None:
    zoo.python(repository, "says", SAYS, zoo.ONE_IN_ONE_OUT)
    world = await start()
    seen = await refused(world.stub.ModelInfer(request("says", x=floats(1))))
    assert (seen.status.name, seen.text) == ("FAILED_PRECONDITION", "feed me first")


OPTIONAL = """
class Model:
    def __init__(self, folder, config): ...
    def infer(self, inputs):
        return {"y": inputs["x"] * (inputs["scale"] if "scale" in inputs else 1)}
"""


@pytest.mark.parametrize(("scale", "out"), [(None, 3), (2, 6)])
async def test_an_optional_input(repository: Path, start, scale: int | None, out: int) -> None:
    extra = 'input { name: "scale" data_type: TYPE_FP32 dims: 1 optional: true }'
    zoo.python(repository, "scaled", OPTIONAL, zoo.ONE_IN_ONE_OUT + extra)
    world = await start()
    inputs = {"x": floats(3)} if scale is None else {"x": floats(3), "scale": floats(scale)}
    assert fp32(await world.stub.ModelInfer(request("scaled", **inputs))).tolist() == [out]


THREAD_BOUND = """
import sqlite3
import threading

imported_in = threading.get_ident()

class Model:
    def __init__(self, folder, config):
        self.folder = folder.parent
        self.threads = {imported_in, threading.get_ident()}
        self.db = sqlite3.connect(":memory:")  # refuses every other thread

    def infer(self, inputs):
        self.db.execute("SELECT 1")
        self.threads.add(threading.get_ident())
        while not (self.folder / "both").exists() and len(list(self.folder.glob("in-*"))) < 2:
            (self.folder / f"in-{threading.get_ident()}").touch()
        (self.folder / "both").touch()
        return {"y": inputs["x"]}

    def close(self):
        self.db.close()
        self.threads.add(threading.get_ident())
        (self.folder / f"closed-{'-'.join(map(str, self.threads))}").touch()
"""


async def test_all_of_an_instances_code_runs_in_its_own_thread(repository: Path, start) -> None:
    zoo.python(repository, "bound", THREAD_BOUND, zoo.ONE_IN_ONE_OUT + "instance_group { count: 2 }")
    folder = repository / "bound"
    world = await start()
    await asyncio.gather(*(world.stub.ModelInfer(request("bound", x=floats(at)), timeout=10) for at in (1, 2)))
    await world.stub.RepositoryModelUnload(pb.RepositoryModelUnloadRequest(model_name="bound"))
    await until(lambda: len(list(folder.glob("closed-*"))) == 2)
    used = [file.name.removeprefix("closed-").split("-") for file in folder.glob("closed-*")]
    assert [len(threads) for threads in used] == [1, 1]
    assert used[0] != used[1]
    assert str(threading.get_ident()) not in (*used[0], *used[1])


STREAM_BOUND = """
import sqlite3

class Model:
    def __init__(self, folder, config):
        self.db = sqlite3.connect(":memory:")

    def infer(self, inputs):
        for (number,) in self.db.execute("SELECT 1 UNION SELECT 2"):
            yield {"y": inputs["x"] * number}
"""


async def test_so_does_a_generators(repository: Path, start) -> None:
    decoupled = zoo.ONE_IN_ONE_OUT + "model_transaction_policy { decoupled: true }"
    zoo.python(repository, "bound", STREAM_BOUND, decoupled)
    world = await start()
    answers = [answer async for answer in world.stub.ModelStreamInfer(iter([request("bound", x=floats(1))]))]
    assert [answer.error_message for answer in answers] == ["", ""]
    assert [float(fp32(answer.infer_response)[0]) for answer in answers] == [1, 2]
