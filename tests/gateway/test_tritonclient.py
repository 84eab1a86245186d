"""tritonclient, unmodified, sync and aio, through the gateway to a real worker with real models."""

import asyncio
import queue
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import pytest_asyncio
import tritonclient.grpc as triton
import tritonclient.grpc.aio as triton_aio
from tritonclient.utils import InferenceServerException

from gateway.server import serving
from gateway.settings import load
from tests.gateway.tokens import Issuer
from tests.gateway.world import in_front_of
from tests.workers import zoo
from workers.server import Options
from workers.server import serving as worker_serving

pytestmark = pytest.mark.asyncio(loop_scope="module")

DATATYPES = ["BOOL", "INT8", "UINT8", "INT32", "INT64", "FP16", "FP32", "FP64", "BYTES"]
TYPED = ["BOOL", "INT8", "UINT8", "INT32", "INT64", "FP32", "FP64", "BYTES"]  # FP16 has no typed contents


@dataclass
class Door:
    address: str
    headers: dict[str, str]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def door(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Door]:
    folder = tmp_path_factory.mktemp("door")
    repository = folder / "models"
    for datatype in DATATYPES:
        zoo.identity(repository, datatype)
    zoo.add(repository)
    issuer = Issuer(scope="all")
    names = [*(datatype.lower() for datatype in DATATYPES), "add"]
    async with worker_serving(Options(repository, "127.0.0.1:0")) as worker:
        config = in_front_of(worker, folder, issuer, *names)
        async with serving(load(config, {})) as addresses:
            yield Door(addresses.grpc, {"authorization": f"Bearer {issuer.token()}"})


def values(datatype: str) -> np.ndarray:
    if datatype == "BYTES":
        return np.array([[b"a", "\u00fc".encode()], [b"", b"\x00\x01"]], dtype=object)
    if datatype == "BOOL":
        return np.array([[True, False], [False, True]])
    kind = {"FP16": np.float16, "FP32": np.float32, "FP64": np.float64}.get(datatype) or np.dtype(datatype.lower())
    return np.array([[1, 2], [3, 4]], dtype=kind)


def wanted(module, name: str, datatype: str, binary: bool = True):
    made = module.InferInput(name, [2, 2], datatype)
    made.set_data_from_numpy(values(datatype))
    if binary:
        return made
    return Typed(made, name, datatype)


class Typed:
    """An input in typed contents, which tritonclient itself never sends but carries unchanged."""

    def __init__(self, made, name: str, datatype: str) -> None:
        self._input = made
        self._name = name
        self._datatype = datatype

    def __getattr__(self, attribute: str):
        return getattr(self._input, attribute)

    def _get_content(self) -> None:
        return None

    def _get_tensor(self):
        tensor = self._input._get_tensor()
        field = {"BOOL": "bool", "INT8": "int", "UINT8": "uint", "INT32": "int", "INT64": "int64"}.get(
            self._datatype, self._datatype.lower()
        )
        getattr(tensor.contents, f"{field}_contents").extend(values(self._datatype).ravel().tolist())
        return tensor


@pytest.mark.parametrize(
    ("datatype", "binary"), [*((each, True) for each in DATATYPES), *((each, False) for each in TYPED)]
)
async def test_infer_with_arrays(door: Door, datatype: str, binary: bool) -> None:
    async with triton_aio.InferenceServerClient(door.address) as client:
        asked = [wanted(triton_aio, "x", datatype, binary)]
        result = await client.infer(datatype.lower(), asked, request_id="42", headers=door.headers)
    assert result.get_response().id == "42"
    assert result.as_numpy("y").tolist() == values(datatype).tolist()


async def test_every_question_of_the_aio_client(door: Door) -> None:
    async with triton_aio.InferenceServerClient(door.address) as client:
        headers = door.headers
        assert await client.is_server_live()
        assert await client.is_server_ready()
        assert await client.is_model_ready("add", headers=headers)
        assert (await client.get_server_metadata(headers=headers)).name == "headrace"
        metadata = await client.get_model_metadata("add", headers=headers)
        assert [tensor.name for tensor in metadata.inputs] == ["a", "b"]
        assert (await client.get_model_config("add", headers=headers)).config.name == "add"
        index = await client.get_model_repository_index(headers=headers)
        assert sorted(row.name for row in index.models) == sorted(["add", *(each.lower() for each in DATATYPES)])
        (before,) = (await client.get_inference_statistics("fp32", headers=headers)).model_stats
        await client.infer("fp32", [wanted(triton_aio, "x", "FP32")], headers=headers)
        (after,) = (await client.get_inference_statistics("fp32", headers=headers)).model_stats
        assert after.inference_stats.success.count == before.inference_stats.success.count + 1
        await client.unload_model("add", headers=headers)
        assert not await client.is_model_ready("add", headers=headers)
        await client.load_model("add", headers=headers)
        assert await client.is_model_ready("add", headers=headers)


async def test_aio_streaming(door: Door) -> None:
    async def asked() -> AsyncIterator[dict]:
        for number in range(10):
            yield {
                "model_name": "fp32",
                "inputs": [wanted(triton_aio, "x", "FP32")],
                "request_id": str(number),
            }

    async with triton_aio.InferenceServerClient(door.address) as client:
        answers = [answer async for answer in client.stream_infer(asked(), headers=door.headers)]
    assert [(result.get_response().id, error) for result, error in answers] == [(str(n), None) for n in range(10)]
    assert answers[0][0].as_numpy("y").tolist() == values("FP32").tolist()


def sync_tour(door: Door) -> None:
    headers = door.headers
    with triton.InferenceServerClient(door.address) as client:
        assert client.is_server_live()
        assert client.is_server_ready()
        assert client.is_model_ready("add", headers=headers)
        assert client.get_server_metadata(headers=headers).name == "headrace"
        assert client.get_model_metadata("add", headers=headers).name == "add"
        assert client.get_model_config("add", headers=headers).config.name == "add"
        assert len(client.get_model_repository_index(headers=headers).models) == 1 + len(DATATYPES)
        before = client.get_inference_statistics("fp32", headers=headers).model_stats[0].inference_count
        for binary in (True, False):
            result = client.infer("fp32", [wanted(triton, "x", "FP32", binary)], headers=headers)
            assert result.as_numpy("y").tolist() == values("FP32").tolist()
        assert client.get_inference_statistics("fp32", headers=headers).model_stats[0].inference_count == before + 4
        with pytest.raises(InferenceServerException, match="UNAUTHENTICATED"):
            client.infer("fp32", [wanted(triton, "x", "FP32")])

        came: queue.Queue = queue.Queue()
        client.start_stream(lambda result, error: came.put((result, error)), headers=headers)
        for number in range(5):
            client.async_stream_infer("fp32", [wanted(triton, "x", "FP32")], request_id=str(number))
        client.stop_stream()
        answers = [came.get(timeout=10) for _ in range(5)]
        assert [(result.get_response().id, error) for result, error in answers] == [(str(n), None) for n in range(5)]

        later: queue.Queue = queue.Queue()
        client.async_infer(
            "fp32", [wanted(triton, "x", "FP32")], lambda result, error: later.put((result, error)), headers=headers
        )
        assert later.get(timeout=10)[1] is None


async def test_every_question_of_the_sync_client(door: Door) -> None:
    await asyncio.to_thread(sync_tour, door)


@pytest.mark.parametrize("algorithm", ["gzip", "deflate"])
async def test_compressed_messages(door: Door, algorithm: str) -> None:
    async with triton_aio.InferenceServerClient(door.address) as client:
        asked = [wanted(triton_aio, "x", "FP32")]
        result = await client.infer("fp32", asked, headers=door.headers, compression_algorithm=algorithm)
    assert result.as_numpy("y").tolist() == values("FP32").tolist()


COUNTING = """
class Model:
    def __init__(self, folder, config):
        pass

    def infer(self, inputs):
        for number in range(int(inputs["x"].sum())):
            yield {"y": inputs["x"] + number}
"""
DECOUPLED = zoo.ONE_IN_ONE_OUT + "model_transaction_policy { decoupled: true }"


async def test_a_decoupled_model_answers_none_or_many_times_and_says_when_it_is_done(tmp_path: Path) -> None:
    zoo.python(tmp_path / "models", "counting", COUNTING, DECOUPLED)
    issuer = Issuer()

    def ask(address: str, final: bool) -> list[tuple[str, int, bool]]:
        headers = {"authorization": f"Bearer {issuer.token()}"}
        came: queue.Queue = queue.Queue()
        with triton.InferenceServerClient(address) as client:
            client.start_stream(lambda result, error: came.put((result, error)), headers=headers)
            for id, times in (("none", 0), ("three", 3)):
                tensor = triton.InferInput("x", [1], "FP32")
                tensor.set_data_from_numpy(np.array([times], np.float32))
                client.async_stream_infer("counting", [tensor], request_id=id, enable_empty_final_response=final)
            client.stop_stream()  # returns when all is answered
        answers = []
        while not came.empty():
            result, error = came.get()
            assert error is None
            answer = result.get_response()
            answers.append((answer.id, len(answer.outputs), answer.parameters["triton_final_response"].bool_param))
        return answers

    three = [("three", 1, False)] * 3
    async with (
        worker_serving(Options(tmp_path / "models", "127.0.0.1:0")) as worker,
        serving(load(in_front_of(worker, tmp_path, issuer, "counting"), {})) as addresses,
    ):
        assert await asyncio.to_thread(ask, addresses.grpc, False) == three
        all_of_it = [("none", 0, True), *three, ("three", 0, True)]
        assert await asyncio.to_thread(ask, addresses.grpc, True) == all_of_it
