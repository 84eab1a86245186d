"""ModelStreamInfer: in order, errors in-band, and models that answer as often as they like."""

from __future__ import annotations

import asyncio
from pathlib import Path
from queue import Queue

import grpc
import numpy as np
import tritonclient.grpc as sync_client
import tritonclient.grpc.aio as aio_client

from protos import grpc_service_pb2 as pb
from tests.workers import zoo
from tests.workers.calling import floats, fp32, refused, request
from tests.workers.conftest import World, until

COUNTDOWN = """
class Model:
    def __init__(self, folder, config):
        self.folder = folder

    def infer(self, inputs):
        try:
            for left in range(int(inputs["x"][0]), 0, -1):
                with (self.folder / "ran").open("a") as ran:
                    ran.write(f"{left}\\n")
                yield {"y": inputs["x"] * 0 + left}
        finally:
            (self.folder / "closed").touch()
"""
DECOUPLED = zoo.ONE_IN_ONE_OUT + "model_transaction_policy { decoupled: true }"


async def streamed(world: World, *requests: pb.ModelInferRequest) -> list[pb.ModelStreamInferResponse]:
    async def send():
        for one in requests:
            yield one

    return [answer async for answer in world.stub.ModelStreamInfer(send())]


async def test_answers_come_in_order_and_an_error_is_one_of_them(repository: Path, start) -> None:
    zoo.add(repository)
    zoo.identity(repository, "FP32")
    world = await start()
    ones = np.ones((1, 2))
    good = [request("add", id=f"r{at}", a=ones, b=ones * at) for at in range(3)]
    bad = request("add", "1", id="bad", a=ones)
    unknown = request("nope", "3", id="unknown")
    answers = await streamed(world, good[0], bad, good[1], unknown, request("fp32", id="other", x=ones), good[2])
    assert [one.infer_response.id for one in answers] == ["r0", "bad", "r1", "unknown", "other", "r2"]
    assert [bool(one.error_message) for one in answers] == [False, True, False, True, False, False]
    assert answers[1].error_message == "model 'add' needs the input 'b'"
    named = answers[3].infer_response
    assert (named.model_name, named.model_version) == ("nope", "3")
    assert all(one.infer_response.parameters["triton_final_response"].bool_param for one in answers)
    assert fp32(answers[5].infer_response).tolist() == [[3, 3]]


async def test_what_a_model_raises_stays_here_in_a_stream_too(repository: Path, start) -> None:
    code = "class Model:\n def __init__(self, *_): ...\n def infer(self, inputs): raise OSError('secret')\n"
    zoo.python(repository, "fails", code, zoo.ONE_IN_ONE_OUT)
    world = await start()
    answers = await streamed(world, *(request("fails", id=name, x=floats(1)) for name in ("r1", "r2")))
    assert [one.error_message for one in answers] == [f"internal error (request {name})" for name in ("r1", "r2")]


async def test_bytes_that_are_no_message_end_the_stream(repository: Path, start) -> None:
    world = await start()
    call = world.channel.stream_stream("/inference.GRPCInferenceService/ModelStreamInfer")()
    await call.write(b"\xff\xff")
    await call.done_writing()
    seen = await refused(call.read())
    assert (seen.status, seen.reason) == (grpc.StatusCode.INVALID_ARGUMENT, "REQUEST_MALFORMED")


async def test_a_decoupled_model_answers_as_often_as_it_likes(repository: Path, start) -> None:
    zoo.python(repository, "countdown", COUNTDOWN, DECOUPLED)
    world = await start()
    asked = [request("countdown", id=f"r{count}", x=floats(count)) for count in (3, 0, 1)]
    answers = await streamed(world, *asked)
    assert [(one.infer_response.id, fp32(one.infer_response)[0]) for one in answers] == [
        ("r3", 3),
        ("r3", 2),
        ("r3", 1),
        ("r1", 1),
    ]
    assert not any(one.infer_response.parameters["triton_final_response"].bool_param for one in answers)
    statistics = (await world.stub.ModelStatistics(pb.ModelStatisticsRequest())).model_stats[0]
    assert (statistics.inference_stats.success.count, statistics.execution_count) == (3, 3)


async def test_who_asks_for_it_gets_an_empty_last_response(repository: Path, start) -> None:
    zoo.python(repository, "countdown", COUNTDOWN, DECOUPLED)
    world = await start()
    asked = [request("countdown", id=f"r{count}", x=floats(count)) for count in (2, 0)]
    for one in asked:
        one.parameters["triton_enable_empty_final_response"].bool_param = True
    answers = [one.infer_response for one in await streamed(world, *asked)]
    assert [(one.id, len(one.outputs), one.parameters["triton_final_response"].bool_param) for one in answers] == [
        ("r2", 1, False),
        ("r2", 1, False),
        ("r2", 0, True),
        ("r0", 0, True),
    ]
    assert {(one.model_name, one.model_version) for one in answers} == {("countdown", "1")}


async def test_a_decoupled_model_has_no_unary_answer(repository: Path, start) -> None:
    zoo.python(repository, "countdown", COUNTDOWN, DECOUPLED)
    world = await start()
    seen = await refused(world.stub.ModelInfer(request("countdown", x=floats(1))))
    assert seen.status is grpc.StatusCode.UNIMPLEMENTED
    assert "ModelStreamInfer" in seen.text


async def test_when_the_reader_goes_the_model_stops_and_serves_the_next(repository: Path, start) -> None:
    zoo.python(repository, "countdown", COUNTDOWN, DECOUPLED)
    folder = repository / "countdown" / "1"
    world = await start()
    call = world.stub.ModelStreamInfer()
    await call.write(request("countdown", x=floats(1_000_000_000)))
    await call.read()
    call.cancel()
    await until((folder / "closed").exists)
    ran = (folder / "ran").read_text()
    answers = await streamed(world, request("countdown", x=floats(1)))
    assert len(answers) == 1
    assert (folder / "ran").read_text() == ran + "1\n"


async def test_tritonclients_stream(repository: Path, start) -> None:
    zoo.python(repository, "countdown", COUNTDOWN, DECOUPLED)
    world = await start()

    given = aio_client.InferInput("x", [1], "FP32").set_data_from_numpy(floats(2))

    async def send():
        yield {"model_name": "countdown", "inputs": [given]}

    async with aio_client.InferenceServerClient(world.address) as client:
        async with asyncio.timeout(10):
            seen = [(float(result.as_numpy("y")[0]), error) async for result, error in client.stream_infer(send())]
    assert seen == [(2, None), (1, None)]

    def in_a_thread() -> list[float | None]:
        seen: Queue[tuple[object, object]] = Queue()
        with sync_client.InferenceServerClient(world.address) as client:
            client.start_stream(lambda result, error: seen.put((result, error)))
            client.async_stream_infer("countdown", [given], enable_empty_final_response=True)
            answers = [seen.get(timeout=10) for _ in range(3)]
            client.stop_stream()
        assert all(error is None for _, error in answers)
        arrays = [result.as_numpy("y") for result, _ in answers]
        return [None if array is None else float(array[0]) for array in arrays]

    assert await asyncio.to_thread(in_a_thread) == [2, 1, None]
