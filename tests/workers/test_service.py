"""tritonclient, unmodified, against a worker; and what malformed requests get."""

from __future__ import annotations

import asyncio
from pathlib import Path

import grpc
import ml_dtypes
import numpy as np
import pytest
import tritonclient.grpc as sync_client
import tritonclient.grpc.aio as aio_client
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from protos import grpc_service_pb2 as pb
from tests.workers import zoo
from tests.workers.calling import floats, fp32, refused, request
from tests.workers.conftest import until
from workers.tensors import DTYPES, from_raw, to_raw


def sample(datatype: str) -> np.ndarray:
    if datatype == "BYTES":
        return np.array([[b"a", "ä\x00".encode()], [b"", b"long" * 50]], np.object_)
    if datatype == "BOOL":
        return np.array([[True, False], [False, True]])
    low, high = (-3, 3) if not datatype.startswith("U") else (0, 255)
    return np.array([[low, high], [1, 0]]).astype(ml_dtypes.bfloat16 if datatype == "BF16" else DTYPES[datatype])


@pytest.mark.parametrize("batched", [True, False])
async def test_every_datatype_raw_there_and_back(repository: Path, start, batched: bool) -> None:
    for datatype in zoo.ONNX_TYPES:
        zoo.identity(repository, datatype, dims=("n", 2) if batched else (2, 2))
    world = await start()
    for datatype in zoo.ONNX_TYPES:
        array = sample(datatype)
        asked = pb.ModelInferRequest(model_name=datatype.lower(), raw_input_contents=[to_raw(array, datatype)])
        asked.inputs.add(name="x", datatype=datatype, shape=[2, 2])
        answer = await world.stub.ModelInfer(asked)
        assert (answer.outputs[0].name, answer.outputs[0].datatype) == ("y", datatype)
        assert list(answer.outputs[0].shape) == [2, 2]
        assert not answer.outputs[0].HasField("contents")
        assert answer.raw_output_contents[0] == asked.raw_input_contents[0]
        assert (from_raw("y", datatype, (2, 2), answer.raw_output_contents[0]) == array).all()


TYPED = {
    "BOOL": "bool",
    **dict.fromkeys(["INT8", "INT16", "INT32"], "int"),
    **dict.fromkeys(["UINT8", "UINT16", "UINT32"], "uint"),
    "INT64": "int64",
    "UINT64": "uint64",
    "FP32": "fp32",
    "FP64": "fp64",
    "BYTES": "bytes",
}


async def test_every_datatype_with_typed_contents(repository: Path, start) -> None:
    for datatype in TYPED:
        zoo.identity(repository, datatype)
    world = await start()
    for datatype, field in TYPED.items():
        array = sample(datatype)
        asked = pb.ModelInferRequest(model_name=datatype.lower())
        given = asked.inputs.add(name="x", datatype=datatype, shape=[2, 2])
        getattr(given.contents, f"{field}_contents").extend(array.ravel().tolist())
        answer = await world.stub.ModelInfer(asked)
        assert answer.raw_output_contents[0] == to_raw(array, datatype)


async def test_tritonclient_aio(repository: Path, start) -> None:
    zoo.add(repository)
    world = await start()
    async with aio_client.InferenceServerClient(world.address) as client:
        assert await client.is_server_live()
        assert await client.is_server_ready()
        assert await client.is_model_ready("add")
        assert "execution_provider(CPUExecutionProvider)" in (await client.get_server_metadata()).extensions
        inputs = []
        for name in "ab":
            given = aio_client.InferInput(name, [2, 2], "FP32")
            inputs.append(given.set_data_from_numpy(np.ones((2, 2), np.float32)))
        result = await client.infer("add", inputs, request_id="r1", outputs=[aio_client.InferRequestedOutput("c")])
        assert result.get_response().id == "r1"
        assert result.as_numpy("c").tolist() == [[2, 2], [2, 2]]


async def test_tritonclient_sync(repository: Path, start) -> None:
    zoo.add(repository)
    zoo.identity(repository, "BYTES")
    world = await start()

    def calls() -> None:
        with sync_client.InferenceServerClient(world.address) as client:
            metadata = client.get_model_metadata("add", as_json=True)
            assert metadata["platform"] == "onnxruntime_onnx"
            assert metadata["versions"] == ["1"]
            assert metadata["inputs"][0] == {"name": "a", "datatype": "FP32", "shape": ["-1", "2"]}
            config = client.get_model_config("add").config
            assert (config.name, config.max_batch_size, config.backend) == ("add", 4, "onnxruntime")
            assert config.instance_group[0].kind == config.instance_group[0].KIND_CPU
            index = client.get_model_repository_index().models
            assert [(row.name, row.version, row.state) for row in index] == [
                ("add", "1", "READY"),
                ("bytes", "1", "READY"),
            ]
            given = sync_client.InferInput("x", [1, 2], "BYTES")
            given.set_data_from_numpy(np.array([[b"a", "ö".encode()]], np.object_))
            assert client.infer("bytes", [given]).as_numpy("y").tolist() == [[b"a", "ö".encode()]]
            statistics = client.get_inference_statistics("bytes").model_stats[0]
            assert statistics.inference_stats.success.count == 1

    await asyncio.to_thread(calls)


async def test_only_the_outputs_asked_for(repository: Path, start) -> None:
    body = zoo.graph("Split", {"x": ("n", 2)}, {"p": ("n", 1), "q": ("n", 1)})
    zoo.put(repository, "split", _with_axis(body))
    world = await start()
    asked = request("split", x=floats(1, 2).reshape(1, 2))
    assert [output.name for output in (await world.stub.ModelInfer(asked)).outputs] == ["p", "q"]
    asked.outputs.add(name="q")
    answer = await world.stub.ModelInfer(asked)
    assert [output.name for output in answer.outputs] == ["q"]
    assert fp32(answer).tolist() == [[2]]


def _with_axis(body: bytes) -> bytes:
    import onnx

    model = onnx.ModelProto.FromString(body)
    model.graph.node[0].attribute.extend(
        [onnx.helper.make_attribute("axis", 1), onnx.helper.make_attribute("num_outputs", 2)]
    )
    return model.SerializeToString()


async def test_a_scalar_behind_the_batch_is_reshaped_both_ways(repository: Path, start) -> None:
    zoo.identity(repository, "FP32", dims=("n",))
    world = await start()
    metadata = await world.stub.ModelMetadata(pb.ModelMetadataRequest(name="fp32"))
    assert list(metadata.inputs[0].shape) == [-1, 1]
    answer = await world.stub.ModelInfer(request("fp32", x=floats(1, 2, 3).reshape(3, 1)))
    assert fp32(answer).tolist() == [[1], [2], [3]]


BATCHING = zoo.ONE_IN_ONE_OUT + "max_batch_size: 8 dynamic_batching { }"


async def test_requests_that_wait_are_batched_and_not_mixed_up(repository: Path, start) -> None:
    gate = zoo.gated(repository, BATCHING)
    world = await start()
    gate.shut()
    calls = [asyncio.ensure_future(world.stub.ModelInfer(request("gated", x=floats(0).reshape(1, 1))))]
    await until(lambda: len(gate.ran()) == 1)
    sizes = [1, 2, 3, 1]
    for at, size in enumerate(sizes, 1):
        calls.append(asyncio.ensure_future(world.stub.ModelInfer(request("gated", x=np.full((size, 1), at)))))
    calls.append(asyncio.ensure_future(world.stub.ModelInfer(request("gated", x=np.full((1, 2), 9)))))
    await until(lambda: world.calls.begun == len(calls))
    gate.open()
    answers = await asyncio.gather(*calls)
    assert fp32(answers[-1]).tolist() == [[18, 18]]
    for at, (size, answer) in enumerate(zip(sizes, answers[1:-1], strict=True), 1):
        assert fp32(answer).tolist() == [[2 * at]] * size
    statistics = (await world.stub.ModelStatistics(pb.ModelStatisticsRequest(name="gated"))).model_stats[0]
    assert statistics.inference_count == 9
    assert statistics.execution_count == len(gate.ran()) < len(calls)
    assert max(one.batch_size for one in statistics.batch_stats) > 1
    assert sum(one.batch_size * one.compute_infer.count for one in statistics.batch_stats) == 9
    assert all(len(set(line.split())) == 1 or "9" not in line.split() for line in gate.ran())


async def test_a_preferred_batch_goes_before_its_delay(repository: Path, start) -> None:
    batching = "dynamic_batching { preferred_batch_size: 4 max_queue_delay_microseconds: 60000000 }"
    zoo.add(repository, config=batching)
    world = await start()
    ones = np.ones((1, 2))
    calls = [world.stub.ModelInfer(request("add", a=ones * at, b=ones)) for at in range(4)]
    async with asyncio.timeout(20):
        answers = await asyncio.gather(*calls)
    assert [fp32(answer).tolist() for answer in answers] == [[[at + 1, at + 1]] for at in range(4)]
    statistics = (await world.stub.ModelStatistics(pb.ModelStatisticsRequest())).model_stats[0]
    assert (statistics.inference_count, statistics.execution_count) == (4, 1)
    assert [one.batch_size for one in statistics.batch_stats] == [4]


async def test_a_full_queue(repository: Path, start) -> None:
    gate = zoo.gated(repository)
    world = await start(queue=1)
    gate.shut()
    running = asyncio.ensure_future(world.stub.ModelInfer(request("gated", x=floats(1))))
    await until(gate.ran)
    queued = asyncio.ensure_future(world.stub.ModelInfer(request("gated", x=floats(2)), timeout=20))
    await until(lambda: world.calls.begun == 2)
    seen = await refused(world.stub.ModelInfer(request("gated", x=floats(3))))
    assert (seen.status, seen.reason) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "OVERLOADED")
    assert seen.retry_after > 0
    gate.open()
    assert fp32(await running).tolist() == [2]
    assert fp32(await queued).tolist() == [4]
    assert gate.ran() == ["1", "2"]


async def test_work_that_nobody_waits_for_is_not_run(repository: Path, start, spans: InMemorySpanExporter) -> None:
    gate = zoo.gated(repository)
    world = await start()
    gate.shut()
    running = asyncio.ensure_future(world.stub.ModelInfer(request("gated", x=floats(1))))
    await until(gate.ran)
    cancelled = world.stub.ModelInfer(request("gated", x=floats(2)))
    await until(lambda: world.calls.begun == 2)
    expired = world.stub.ModelInfer(request("gated", x=floats(3)), timeout=2)
    await until(lambda: world.calls.begun == 3)  # a deadline that passes on the way would never be the worker's to see
    assert (await refused(expired)).status is grpc.StatusCode.DEADLINE_EXCEEDED
    cancelled.cancel()
    last = asyncio.ensure_future(world.stub.ModelInfer(request("gated", x=floats(4))))
    await until(lambda: len(spans.get_finished_spans()) == 2 and world.calls.begun == 4)
    gate.open()
    await running
    await last
    assert gate.ran() == ["1", "4"]


async def test_the_queues_own_timeout(repository: Path, start) -> None:
    policy = "default_queue_policy { default_timeout_microseconds: 5000000 allow_timeout_override: true }"
    gate = zoo.gated(repository, zoo.ONE_IN_ONE_OUT + f"max_batch_size: 1 dynamic_batching {{ {policy} }}")
    world = await start()
    gate.shut()
    running = asyncio.ensure_future(world.stub.ModelInfer(request("gated", x=floats(1).reshape(1, 1))))
    await until(gate.ran)
    hasty = request("gated", x=floats(2).reshape(1, 1))
    hasty.parameters["timeout"].int64_param = 50_000
    seen = await refused(world.stub.ModelInfer(hasty))
    assert (seen.status, seen.reason) == (grpc.StatusCode.DEADLINE_EXCEEDED, "DEADLINE")
    gate.open()
    await running
    assert gate.ran() == ["1"]


def _edited(**fields: object) -> pb.ModelInferRequest:
    made = request("add", a=np.ones((1, 2)), b=np.ones((1, 2)))
    for name, value in fields.items():
        setattr(made, name, value)
    return made


def _shape(*shape: int) -> pb.ModelInferRequest:
    made = _edited()
    made.inputs[0].shape[:] = shape
    return made


def _change(**fields: object) -> pb.ModelInferRequest:
    made = _edited()
    for name, value in fields.items():
        setattr(made.inputs[0], name, value)
    return made


def _mixed() -> pb.ModelInferRequest:
    made = _edited()
    made.inputs[0].contents.fp32_contents.extend([1, 2])
    return made


def _parameter(where: str, key: str) -> pb.ModelInferRequest:
    made = _edited()
    made.outputs.add(name="c")
    holder = made.inputs[0] if where == "input" else made.outputs[0]
    holder.parameters[key].string_param = "region"
    return made


def _outputs(*names: str) -> pb.ModelInferRequest:
    made = _edited()
    for name in names:
        made.outputs.add(name=name)
    return made


def _without_contents() -> pb.ModelInferRequest:
    made = _edited()
    del made.raw_input_contents[:]
    return made


def _raw(*contents: bytes) -> pb.ModelInferRequest:
    made = _edited()
    made.raw_input_contents[:] = contents
    return made


MALFORMED = (grpc.StatusCode.INVALID_ARGUMENT, "REQUEST_MALFORMED")
ELSEWHERE = (grpc.StatusCode.UNIMPLEMENTED, "")
TABLE = [
    (_edited(model_name="nope"), (grpc.StatusCode.NOT_FOUND, "MODEL_UNKNOWN"), "'nope'"),
    (_edited(model_name="../add"), (grpc.StatusCode.NOT_FOUND, "MODEL_UNKNOWN"), "'../add'"),
    (_edited(model_version="7"), (grpc.StatusCode.NOT_FOUND, "VERSION_UNKNOWN"), "no version 7"),
    (_edited(model_version="one"), MALFORMED, "model_version"),
    (_edited(model_version="-1"), MALFORMED, "model_version"),
    (_raw(b"12345678"), MALFORMED, "2 inputs but 1 raw_input_contents"),
    (_raw(b"1234567", b"12345678"), MALFORMED, "input 'a' has 7 bytes"),
    (_mixed(), MALFORMED, "input 'a' has contents, but the request has raw_input_contents"),
    (_without_contents(), MALFORMED, "input 'a' has 0 elements"),
    (_change(name="z"), MALFORMED, "no input 'z'"),
    (_change(name="b"), MALFORMED, "input 'b' is given twice"),
    (_change(datatype="INT32"), MALFORMED, "input 'a' is FP32, not 'INT32'"),
    (_change(datatype=""), MALFORMED, "input 'a' is FP32, not ''"),
    (request("add", a=np.ones((1, 2))), MALFORMED, "needs the input 'b'"),
    (request("add", a=np.ones((1, 2)), b=np.ones((2, 2))), MALFORMED, "different sizes: [1, 2]"),
    (request("add", a=np.ones((5, 2)), b=np.ones((5, 2))), MALFORMED, "batch of 5"),
    (request("add", a=np.ones((0, 2)), b=np.ones((0, 2))), MALFORMED, "batch of 0"),
    (request("add", a=np.ones((1, 3)), b=np.ones((1, 2))), MALFORMED, "input 'a' has the shape [1, 3]"),
    (request("add", a=np.ones(()), b=np.ones((1, 2))), MALFORMED, "input 'a' has no shape"),
    (_shape(1, 2, 1), MALFORMED, "input 'a' has the shape [1, 2, 1]; the model takes [-1, 2]"),
    (_shape(-1, -2), MALFORMED, "input 'a'"),
    (_outputs("z"), MALFORMED, "no output 'z'"),
    (_outputs("c", "c"), MALFORMED, "output 'c' is asked for twice"),
    (_parameter("input", "shared_memory_region"), ELSEWHERE, "shared memory"),
    (_parameter("output", "shared_memory_region"), ELSEWHERE, "shared memory"),
    (_parameter("output", "classification"), MALFORMED, "classification"),
]


async def test_malformed_requests(repository: Path, start) -> None:
    zoo.add(repository)
    world = await start()
    await world.stub.ModelInfer(_edited())
    for asked, outcome, says in TABLE:
        seen = await refused(world.stub.ModelInfer(asked))
        assert (seen.status, seen.reason) == outcome, says
        assert says in seen.text
        assert str(repository) not in seen.text
        assert "Error" not in seen.text
        assert "Exception" not in seen.text


async def test_bytes_that_are_no_message(repository: Path, start) -> None:
    zoo.add(repository)
    world = await start()
    call = world.channel.unary_unary("/inference.GRPCInferenceService/ModelInfer")
    for body in (b"\xff\xff", b"\x0a\xff" * 100_000):
        seen = await refused(call(body, metadata=(("x-request-id", "r7"),)))
        assert (seen.status, seen.reason, seen.request_id) == (*MALFORMED, "r7")


FAILS = """
class Model:
    def __init__(self, folder, config): ...
    def infer(self, inputs):
        raise OSError("secret at /etc/passwd")
"""


async def test_what_a_model_raises_stays_here(repository: Path, start, caplog: pytest.LogCaptureFixture) -> None:
    zoo.python(repository, "fails", FAILS, zoo.ONE_IN_ONE_OUT)
    world = await start()
    seen = await refused(world.stub.ModelInfer(request("fails", id="r9", x=floats(1))))
    assert (seen.status, seen.reason) == (grpc.StatusCode.INTERNAL, "INTERNAL")
    assert (seen.text, seen.request_id) == ("internal error (request r9)", "r9")
    assert "secret at /etc/passwd" in caplog.text
    statistics = (await world.stub.ModelStatistics(pb.ModelStatisticsRequest(name="fails"))).model_stats[0]
    assert (statistics.inference_stats.fail.count, statistics.inference_stats.success.count) == (1, 0)


@pytest.mark.parametrize(
    ("answer", "private"),
    [
        ('{"y": inputs["x"].astype("f8")}', "dtype float64"),
        ('{"z": inputs["x"]}', "KeyError"),
        ('inputs["x"]', "not a dict"),
        ('{"y": inputs["x"][:1]}', "for a batch of 2"),
    ],
)
async def test_an_answer_that_does_not_fit_is_internal(
    repository: Path, start, caplog: pytest.LogCaptureFixture, answer: str, private: str
) -> None:
    code = f"class Model:\n def __init__(self, *_): ...\n def infer(self, inputs): return {answer}\n"
    zoo.python(repository, "odd", code, zoo.ONE_IN_ONE_OUT + "max_batch_size: 2")
    world = await start()
    seen = await refused(world.stub.ModelInfer(request("odd", x=np.ones((2, 1)))))
    assert (seen.reason, seen.text) == ("INTERNAL", "internal error")
    assert private in caplog.text


async def test_statistics_add_up(repository: Path, start) -> None:
    zoo.add(repository)
    world = await start()
    for size in (1, 1, 3):
        await world.stub.ModelInfer(request("add", a=np.ones((size, 2)), b=np.ones((size, 2))))
    await refused(world.stub.ModelInfer(request("add", a=np.ones((1, 2)))))
    one = (await world.stub.ModelStatistics(pb.ModelStatisticsRequest())).model_stats[0]
    assert (one.name, one.version, one.inference_count, one.execution_count) == ("add", "1", 5, 3)
    stats = one.inference_stats
    assert stats.fail.count == 0  # malformed requests never reach the model
    assert [part.count for part in (stats.success, stats.queue, stats.compute_infer)] == [3, 3, 3]
    parts = stats.queue.ns + stats.compute_input.ns + stats.compute_infer.ns + stats.compute_output.ns
    assert 0 < stats.compute_infer.ns < parts <= stats.success.ns
    assert [(each.batch_size, each.compute_infer.count) for each in one.batch_stats] == [(1, 2), (3, 1)]
    assert one.last_inference > 1_600_000_000_000


@pytest.mark.parametrize(
    "name",
    [
        *(f"{kind}SharedMemory{what}" for kind in ("System", "Cuda") for what in ("Status", "Register", "Unregister")),
        *("TraceSetting", "LogSettings"),
    ],
)
async def test_what_is_not_served_says_so(start, name: str) -> None:
    world = await start()
    seen = await refused(getattr(world.stub, name)(getattr(pb, f"{name}Request")()))
    assert seen.status is grpc.StatusCode.UNIMPLEMENTED
    assert seen.text.startswith("this worker ")


async def test_is_a_model_ready(repository: Path, start) -> None:
    zoo.add(repository)
    world = await start()
    ready = world.stub.ModelReady
    assert (await ready(pb.ModelReadyRequest(name="add"))).ready
    assert (await ready(pb.ModelReadyRequest(name="add", version="1"))).ready
    assert (await refused(ready(pb.ModelReadyRequest(name="add", version="2")))).reason == "VERSION_UNKNOWN"
    assert (await refused(ready(pb.ModelReadyRequest(name="nope")))).reason == "MODEL_UNKNOWN"
    await world.stub.RepositoryModelUnload(pb.RepositoryModelUnloadRequest(model_name="add"))
    assert not (await ready(pb.ModelReadyRequest(name="add"))).ready
    seen = await refused(world.stub.ModelInfer(_edited()))
    assert (seen.status, seen.reason) == (grpc.StatusCode.UNAVAILABLE, "MODEL_NOT_READY")
