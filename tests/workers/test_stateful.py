"""Models that keep a state: what a model sees of a sequence is what that sequence has sent it."""

from __future__ import annotations

import asyncio
from pathlib import Path

import grpc
import numpy as np
import pytest

from protos import grpc_service_pb2 as pb
from tests.workers import zoo
from tests.workers.calling import floats, fp32, in_sequence, refused, request
from tests.workers.conftest import World, until

Code = grpc.StatusCode


async def added(world: World, sequence: int | str, x: float, *, model: str = "sum", **flags: bool) -> float:
    answer = await world.stub.ModelInfer(in_sequence(model, sequence, x=floats(x), **flags))
    assert [output.name for output in answer.outputs] == ["y"]
    return float(fp32(answer)[0])


@pytest.fixture
async def world(repository: Path, start) -> World:
    zoo.running_sum(repository)
    return await start()


async def test_each_sequence_has_a_state_of_its_own(world: World) -> None:
    ids = [*range(1, 9), *map(str, range(1, 9))]
    assert await asyncio.gather(*(added(world, id, 1, start=True) for id in ids)) == [1.0] * 16
    for expected in (3.0, 5.0):
        assert await asyncio.gather(*(added(world, id, 2) for id in ids)) == [expected] * 16


async def test_a_sequence_begins_with_nothing_and_again(world: World) -> None:
    assert [await added(world, 7, 5, start=True), await added(world, 7, 5)] == [5, 10]
    assert [await added(world, 7, 1, start=True), await added(world, 7, 1)] == [1, 2]


@pytest.mark.parametrize("sequence", [7, "camera"])
async def test_one_that_is_not_there_is_refused_in_tritons_words(world: World, sequence: int | str) -> None:
    seen = await refused(added(world, sequence, 1))
    assert (seen.status, seen.reason) == (Code.INVALID_ARGUMENT, "SEQUENCE_LOST")
    words = "to model 'sum' must specify the START flag on the first request of the sequence"
    assert seen.text == f"inference request for sequence {sequence} {words}"
    await added(world, sequence, 1, start=True, end=True)
    assert (await refused(added(world, sequence, 1))).reason == "SEQUENCE_LOST"  # it is over


async def test_a_request_has_a_sequence(world: World) -> None:
    seen = await refused(world.stub.ModelInfer(request("sum", x=floats(1))))
    assert seen.text == "inference request to model 'sum' must specify a non-zero or non-empty correlation ID"
    assert (await refused(added(world, 0, 1, start=True))).status is Code.INVALID_ARGUMENT
    odd = in_sequence("sum", 7, x=floats(1))
    odd.parameters["sequence_id"].double_param = 1.0
    assert "must be an integer or a string" in (await refused(world.stub.ModelInfer(odd))).text
    odd = in_sequence("sum", 7, x=floats(1))
    odd.parameters["sequence_start"].int64_param = 1
    assert "must be a bool" in (await refused(world.stub.ModelInfer(odd))).text
    assert "128 bytes" in (await refused(added(world, "x" * 129, 1, start=True))).text


async def test_what_fails_changes_no_state(world: World) -> None:
    await added(world, 7, 5, start=True)
    await refused(world.stub.ModelInfer(in_sequence("sum", 7, x=floats(1, 2))))
    await refused(world.stub.ModelInfer(in_sequence("sum", 7, end=True)))
    assert await added(world, 7, 5) == 10
    await refused(world.stub.ModelInfer(in_sequence("sum", 8, start=True)))
    assert (await refused(added(world, 8, 1))).reason == "SEQUENCE_LOST"  # it has not begun


async def test_a_silent_one_is_forgotten(repository: Path, start) -> None:
    zoo.running_sum(repository, config=zoo.SUM.replace("60000000", "50000"))
    world = await start()
    assert await added(world, 7, 5, start=True) == 5
    async with asyncio.timeout(10):
        while True:
            await asyncio.sleep(0.06)
            seen = await refused(added(world, 7, 5))
            if seen.reason == "SEQUENCE_LOST":
                break


async def test_a_model_that_is_loaded_anew_knows_none(world: World) -> None:
    await added(world, 7, 5, start=True)
    await world.stub.RepositoryModelLoad(pb.RepositoryModelLoadRequest(model_name="sum"))
    assert (await refused(added(world, 7, 5))).reason == "SEQUENCE_LOST"


async def test_in_a_stream_a_refusal_is_an_answer(world: World) -> None:
    sent = [
        in_sequence("sum", 7, id="a", start=True, x=floats(1)),
        in_sequence("sum", 8, id="b", x=floats(1)),
        in_sequence("sum", 7, id="c", x=floats(1)),
    ]

    async def messages():
        for message in sent:
            yield message

    got = [answer async for answer in world.stub.ModelStreamInfer(messages())]
    assert [fp32(answer.infer_response)[0] for answer in got if not answer.error_message] == [1, 2]
    assert "sequence 8 " in got[1].error_message


async def test_batches(repository: Path, start) -> None:
    config = zoo.SUM.replace("max_batch_size: 0", "max_batch_size: 4").replace("dims: 1", "dims: -1")
    zoo.running_sum(repository, config=config, dims=("n", "m"))
    world = await start()
    metadata = await world.stub.ModelMetadata(pb.ModelMetadataRequest(name="sum"))
    assert [(port.name, list(port.shape)) for port in metadata.inputs] == [("x", [-1, -1])]
    assert [port.name for port in metadata.outputs] == ["y"]
    two = in_sequence("sum", 7, start=True, x=np.ones((2, 1)))
    assert "must specify batch-size 1" in (await refused(world.stub.ModelInfer(two))).text
    one = in_sequence("sum", 7, start=True, x=np.ones((1, 1)))
    assert fp32(await world.stub.ModelInfer(one)).tolist() == [[1]]
    more = in_sequence("sum", 7, x=np.ones((1, 3)))  # and the state grows
    assert fp32(await world.stub.ModelInfer(more)).tolist() == [[2, 2, 2]]


async def test_a_caller_may_see_the_state_where_it_is_an_output(repository: Path, start) -> None:
    outputs = 'output { name: "y" data_type: TYPE_FP32 dims: 1 } output { name: "after" data_type: TYPE_FP32 dims: 1 }'
    zoo.running_sum(repository, config=zoo.SUM + outputs)
    world = await start()
    answer = await world.stub.ModelInfer(in_sequence("sum", 7, start=True, x=floats(3)))
    assert [(output.name, fp32(answer, at)[0]) for at, output in enumerate(answer.outputs)] == [("y", 3), ("after", 3)]


@pytest.mark.parametrize(
    ("config", "says"),
    [
        (zoo.SUM.replace('"before"', '"behind"'), "an input 'behind', which the graph does not have"),
        (zoo.SUM.replace('"after"', '"next"'), "an output 'next', which the graph does not have"),
        (zoo.SUM.replace("dims: 1", "dims: [1, 2]"), "the shape [1, 2]"),
        (zoo.SUM.replace("FP32", "FP64"), "is FP64"),
    ],
)
async def test_states_that_the_graph_does_not_have(repository: Path, start, config: str, says: str) -> None:
    zoo.running_sum(repository, config=config)
    world = await start(models=())
    seen = await refused(world.stub.RepositoryModelLoad(pb.RepositoryModelLoadRequest(model_name="sum")))
    assert says in seen.text


SIGNALS = """
import numpy as np

class Model:
    def __init__(self, folder, config):
        pass

    def infer(self, inputs):
        seen = [f"{name}={inputs[name].dtype}{inputs[name].tolist()}" for name in sorted(inputs) if name != "x"]
        return {"y": np.array([" ".join(seen).encode()], object), "after": inputs["before"] + inputs["x"]}
"""


def control(name: str, what: str) -> str:
    return f'control_input {{ name: "{name}" control {{ {what} }} }}'


async def test_a_python_model_sees_its_state_and_where_it_is(repository: Path, start) -> None:
    config = f"""
    input {{ name: "x" data_type: TYPE_FP32 dims: 1 }}
    output {{ name: "y" data_type: TYPE_STRING dims: 1 }}
    sequence_batching {{
      max_sequence_idle_microseconds: 60000000
      state {{ input_name: "before" output_name: "after" data_type: TYPE_FP32 dims: 1 }}
      {control("first", "kind: CONTROL_SEQUENCE_START int32_false_true: [0, 1]")}
      {control("last", "kind: CONTROL_SEQUENCE_END bool_false_true: [false, true]")}
      {control("ready", "kind: CONTROL_SEQUENCE_READY fp32_false_true: [0, 1]")}
      {control("whose", "kind: CONTROL_SEQUENCE_CORRID data_type: TYPE_UINT32")}
    }}"""
    zoo.python(repository, "signals", SIGNALS, config)
    world = await start()

    async def seen(sequence: int | str, **flags: bool) -> str:
        answer = await world.stub.ModelInfer(in_sequence("signals", sequence, x=floats(2), **flags))
        return answer.raw_output_contents[0][4:].decode()

    first = "before=float32[0.0] first=int32[1] last=bool[False] ready=float32[1.0] whose=uint32[7]"
    assert await seen(2**32 + 7, start=True) == first
    last = "before=float32[2.0] first=int32[0] last=bool[True] ready=float32[1.0] whose=uint32[7]"
    assert await seen(2**32 + 7, end=True) == last
    assert "takes an integer" in (await refused(seen("camera", start=True))).text


async def test_requests_of_a_sequence_have_their_turns(repository: Path, start) -> None:
    """Two instances, and a second request that must not run beside the first."""
    zoo.running_sum(repository, config=zoo.SUM + "instance_group { count: 4 kind: KIND_CPU }")
    world = await start()
    await added(world, 7, 0, start=True)
    assert sorted(await asyncio.gather(*(added(world, 7, 1) for _ in range(200)))) == list(range(1, 201))


async def test_one_that_begins_anew_leaves_the_old_one_behind(repository: Path, start) -> None:
    gate = zoo.gated(repository, f"{zoo.ONE_IN_ONE_OUT} sequence_batching {{ }}")
    world = await start()
    gate.shut()
    send = world.stub.ModelInfer
    first = asyncio.ensure_future(send(in_sequence("gated", 7, start=True, x=floats(1))))
    await until(gate.ran)
    second = asyncio.ensure_future(send(in_sequence("gated", 7, x=floats(2))))
    await until(lambda: world.calls.begun == 2)
    anew = asyncio.ensure_future(send(in_sequence("gated", 7, start=True, x=floats(3))))
    await until(lambda: world.calls.begun == 3)
    gate.open()
    assert (await refused(second)).reason == "SEQUENCE_LOST"
    await first
    await anew
    assert gate.ran() == ["1", "3"]
