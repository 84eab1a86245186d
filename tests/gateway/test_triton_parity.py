"""tritonclient's public API, through the gateway as directly at the real Triton.

Each call is made both ways, and answers, statuses and words are compared. Where the two are meant to differ, `DIFFERS`
says how and why.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import queue
import re
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import aiohttp
import numpy as np
import pytest
import tritonclient.grpc as triton
import tritonclient.grpc.aio as triton_aio
from tritonclient.utils import InferenceServerException

from mesh.envoy.admin import Admin
from tests.envoy import ENVOY, needs_envoy
from tests.gateway.triton_doors import MODELS, Door, doors
from tests.triton import Triton, floats, needs_triton, tensor, until

pytestmark = needs_triton
MOST = "mesh" if ENVOY else "python"  # the way with the most on it
DOORS = ["python", *(pytest.param(name, marks=needs_envoy) for name in ("express", "mesh"))]


@pytest.fixture(scope="module")
def ways(triton: Triton, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Door]]:
    with doors(triton.address, tmp_path_factory.mktemp("doors")) as made:
        yield made


@pytest.fixture(scope="module")
def clients(ways: dict[str, Door]) -> Iterator[dict[str, triton.InferenceServerClient]]:
    with contextlib.ExitStack() as stack:
        yield {name: stack.enter_context(triton.InferenceServerClient(way.address)) for name, way in ways.items()}


# ---- the calls ----


@dataclass(frozen=True)
class Ask:
    """A call of tritonclient's: one method, or several one after the other."""

    method: str
    arguments: tuple[Any, ...] = ()
    more: dict[str, Any] = field(default_factory=dict)


def ask(method: str, *arguments: Any, **more: Any) -> Ask:
    return Ask(method, arguments, more)


def x(*values: float) -> list[triton.InferInput]:
    return [tensor(triton, "x", "FP32", floats(*values)[None])]


def pair(shape: tuple[int, ...] = (1, 3), datatype: str = "FP32") -> list[triton.InferInput]:
    dtype = {"FP32": np.float32, "INT32": np.int32}[datatype]
    return [tensor(triton, name, datatype, np.arange(np.prod(shape), dtype=dtype).reshape(shape)) for name in "ab"]


def add(**more: Any) -> Ask:
    return ask("infer", "add", pair(), **more)


def elsewhere() -> list[triton.InferInput]:
    """An input in shared memory that nobody has registered."""
    made = pair()
    made[0] = triton.InferInput("a", [1, 3], "FP32")
    made[0].set_shared_memory("nowhere", 12)
    return made


OVERRIDE = json.dumps(
    {
        "backend": "python",
        "max_batch_size": 2,
        "input": [{"name": "x", "data_type": "TYPE_FP32", "dims": [1]}],
        "output": [{"name": "y", "data_type": "TYPE_FP32", "dims": [1]}],
    }
)
SENT = "class TritonPythonModel:\n    def execute(self, requests): return []\n"

ASKS: dict[str, list[Ask]] = {
    "live": [ask("is_server_live")],
    "ready": [ask("is_server_ready")],
    "server metadata": [ask("get_server_metadata", as_json=True)],
    "model ready": [ask("is_model_ready", "add"), ask("is_model_ready", "add", "1")],
    "model that is not there, ready": [ask("is_model_ready", "ghost")],
    "version that is not there, ready": [ask("is_model_ready", "add", "7")],
    "model metadata": [ask("get_model_metadata", "add", as_json=True)],
    "metadata of a version": [ask("get_model_metadata", "versions", "1", as_json=True)],
    "metadata of all versions": [ask("get_model_metadata", "versions")],
    "metadata of a model that is not there": [ask("get_model_metadata", "ghost")],
    "metadata of a version that is not there": [ask("get_model_metadata", "add", "7")],
    "model config": [ask("get_model_config", "add", as_json=True), ask("get_model_config", "sum")],
    "config of a version that is not there": [ask("get_model_config", "add", "7")],
    "index": [ask("get_model_repository_index", as_json=True)],
    "unload, load": [
        ask("unload_model", "late"),
        ask("load_model", "late"),
        ask("is_model_ready", "late"),
        ask("unload_model", "late", unload_dependents=True),
        ask("load_model", "late"),
    ],
    "load with a configuration": [
        ask("load_model", "late", config=OVERRIDE),
        ask("get_model_config", "late"),
        ask("load_model", "late"),
    ],
    "load with files": [
        ask("load_model", "late", config=OVERRIDE, files={"file:1/model.py": SENT.encode()}),
        ask("get_model_metadata", "late"),
        ask("load_model", "late"),
    ],
    "load what is not there": [ask("load_model", "ghost")],
    "load with a broken configuration": [ask("load_model", "late", config="{")],
    "unload what is not there": [ask("unload_model", "ghost")],
    "statistics": [ask("get_inference_statistics", "add", as_json=True)],
    "statistics of all": [ask("get_inference_statistics", as_json=True)],
    "statistics of a version that is not there": [ask("get_inference_statistics", "add", "7")],
    "trace settings": [ask("get_trace_settings", as_json=True), ask("get_trace_settings", "add", as_json=True)],
    "trace settings of a model that is not there": [ask("get_trace_settings", "ghost")],
    "change trace settings": [
        ask("update_trace_settings", "add", settings={"trace_rate": "7"}, as_json=True),
        ask("update_trace_settings", "add", settings={"trace_rate": None}, as_json=True),
    ],
    "change trace settings to nonsense": [ask("update_trace_settings", settings={"trace_rate": "x"})],
    "log settings": [ask("get_log_settings", as_json=True)],
    "change log settings": [ask("update_log_settings", {"log_verbose_level": 0}, as_json=True)],
    "change log settings to nonsense": [ask("update_log_settings", {"log_format": "x"})],
    "system shared memory": [ask("get_system_shared_memory_status", as_json=True)],
    "system shared memory that is not there": [ask("get_system_shared_memory_status", "x")],
    "register system shared memory that is not there": [ask("register_system_shared_memory", "x", "/no-such", 8)],
    "unregister system shared memory": [ask("unregister_system_shared_memory", "x")],
    "CUDA shared memory": [ask("get_cuda_shared_memory_status", as_json=True)],
    "register CUDA shared memory": [ask("register_cuda_shared_memory", "x", b"aGVsbG8=", 0, 8)],
    "unregister CUDA shared memory": [ask("unregister_cuda_shared_memory")],
    "infer": [add()],
    "infer, with a request's id": [add(request_id="a7")],
    "infer, with a version": [add(model_version="1"), ask("infer", "versions", pair((1, 2)), "1")],
    "infer, of the latest version": [ask("infer", "versions", pair((1, 2)))],
    "infer, with a priority": [add(priority=1)],
    "infer, with a timeout": [add(timeout=10_000_000), ask("infer", "slow", x(1), timeout=10_000_000)],
    "infer, with a deadline": [add(client_timeout=10)],
    "infer, with parameters": [add(parameters={"k": "v", "n": 1, "b": True})],
    "infer, with metadata": [add(headers={"x-mine": "1"})],
    "infer, compressed": [add(compression_algorithm="gzip"), add(compression_algorithm="deflate")],
    "infer, a class": [add(outputs=[triton.InferRequestedOutput("c", class_count=2)])],
    "infer, an output": [add(outputs=[triton.InferRequestedOutput("c")])],
    "infer, an output that is not there": [add(outputs=[triton.InferRequestedOutput("d")])],
    "infer, a batch": [ask("infer", "add", pair((4, 3)))],
    "infer, too large a batch": [ask("infer", "add", pair((5, 3)))],
    "infer, a wrong shape": [ask("infer", "add", pair((1, 2)))],
    "infer, a wrong datatype": [ask("infer", "add", pair(datatype="INT32"))],
    "infer, a wrong input": [ask("infer", "add", x(1))],
    "infer, shared memory that is not there": [ask("infer", "add", elsewhere())],
    "infer, FP16": [ask("infer", "fp16", [tensor(triton, "x", "FP16", np.array([[1, 2]], np.float16))])],
    "infer, BF16": [ask("infer", "bf16", [tensor(triton, "x", "BF16", [[1.5, -2]])])],
    "infer, BYTES": [ask("infer", "bytes", [tensor(triton, "x", "BYTES", np.array([[b"a", b"\xc3\xbc"]], object))])],
    "infer, what the model refuses": [ask("infer", "slow", x(-1))],
    "infer, a decoupled model": [ask("infer", "count", [tensor(triton, "x", "FP32", floats(2))])],
    "infer, a model that is not there": [ask("infer", "ghost", pair())],
    "infer, a model that nobody knows": [ask("infer", "nope", pair())],
    "infer, a version that is not there": [add(model_version="7")],
    "infer, a reserved parameter": [add(parameters={"priority": 1})],
    "infer, a sequence": [
        ask("infer", "sum", x(1), sequence_id=5, sequence_start=True),
        ask("infer", "sum", x(2), sequence_id=5),
        ask("infer", "sum", x(3), sequence_id=5, sequence_end=True),
    ],
    "infer, a sequence of a name": [
        ask("infer", "sum", x(1), sequence_id="five", sequence_start=True),
        ask("infer", "sum", x(2), sequence_id="five", sequence_end=True),
    ],
    "infer, no sequence": [ask("infer", "sum", x(1))],
    "infer, a sequence that has not begun": [ask("infer", "sum", x(1), sequence_id=77)],
}


@dataclass(frozen=True)
class Differs:
    """What the gateway answers instead: a status, or None where it answers well, and words; and why."""

    status: str | None
    words: str
    why: str


_VERSIONS = "the catalog's versions are the gateway's to know"
DIFFERS: dict[str, Differs] = {
    "server metadata": Differs(None, "'name': 'headrace'", "it describes the gateway, and what passes through it"),
    "version that is not there, ready": Differs("NOT_FOUND", "add has no version or alias '7'", _VERSIONS),
    "metadata of a version that is not there": Differs("NOT_FOUND", "add has no version or alias '7'", _VERSIONS),
    "config of a version that is not there": Differs("NOT_FOUND", "add has no version or alias '7'", _VERSIONS),
    "statistics of a version that is not there": Differs("NOT_FOUND", "add has no version or alias '7'", _VERSIONS),
    "infer, a version that is not there": Differs("NOT_FOUND", "add has no version or alias '7'", _VERSIONS),
    "infer, a model that nobody knows": Differs(
        "NOT_FOUND", "there is no model 'nope'", "the catalog's models are, too"
    ),
}
# Of the models that Triton has, the catalog's alone are told of.
LIMITED = {"index", "statistics of all"}
# What may be either as Triton says it, or this: the words of a worker's failure are not for callers.
HIDDEN = {"load what is not there", "load with a broken configuration"}
# To which the gateway may add what to do about it.
LONGER = {"infer, a sequence that has not begun"}
# Shared memory is that of the worker's machine: for who may manage it, on this machine, or refused.
SHARED = {name for name in ASKS if "shared memory" in name}


# ---- what comes of them ----


@dataclass(frozen=True)
class Outcome:
    """An answer, or an error's status and words."""

    answer: Any = None
    status: str | None = None
    words: str = ""


def told(answer: Any) -> Any:
    """An answer to compare: of statistics the names alone, the numbers move."""
    if hasattr(answer, "get_response"):
        return answer.get_response(as_json=True)
    if isinstance(answer, dict) and "model_stats" in answer:
        rows = [row | {"inference_stats": sorted(row["inference_stats"])} for row in answer["model_stats"]]
        return {"models": [{key: row[key] for key in ("name", "version", "inference_stats")} for row in rows]}
    return answer if isinstance(answer, dict | bool | None) else str(answer)


def failed(error: InferenceServerException) -> Outcome:
    return Outcome(status=(error.status() or "").removeprefix("StatusCode."), words=error.message())


def asked(client: triton.InferenceServerClient, asks: list[Ask], headers: dict[str, str]) -> list[Outcome]:
    outcomes = []
    for each in asks:
        more = each.more | {"headers": each.more.get("headers", {}) | headers}
        try:
            outcomes.append(Outcome(told(getattr(client, each.method)(*each.arguments, **more))))
        except InferenceServerException as error:
            outcomes.append(failed(error))
    return outcomes


async def asked_aio(way: Door, asks: list[Ask]) -> list[Outcome]:
    outcomes = []
    async with triton_aio.InferenceServerClient(way.address) as client:
        for each in asks:
            more = each.more | {"headers": each.more.get("headers", {}) | way.headers}
            try:
                outcomes.append(Outcome(told(await getattr(client, each.method)(*each.arguments, **more))))
            except InferenceServerException as error:
                outcomes.append(failed(error))
    return outcomes


def of_one(outcome: Outcome) -> Outcome:
    """The outcome as one copy's: of a call for a whole server the gateway says how many have failed."""
    return replace(outcome, words=re.sub(r"^(\d+) of \1 copies failed: ", "", outcome.words))


def compared(name: str, direct: list[Outcome], through: list[Outcome]) -> None:
    difference = DIFFERS.get(name)
    if difference is not None:
        assert direct != through, f"{name}: no difference any more"
        assert [outcome.status for outcome in through] == [difference.status]
        assert re.search(difference.words, through[0].words or str(through[0].answer))
    elif name in LIMITED:
        (theirs,), (ours,) = direct, through
        known = [row for row in theirs.answer["models"] if row["name"] in (*MODELS, "versions")]
        assert sorted(map(str, ours.answer["models"])) == sorted(map(str, known))
        assert "gated" in str(theirs) and "gated" not in str(ours)
    elif name in HIDDEN:
        assert [outcome.status for outcome in through] == [outcome.status for outcome in direct]
        assert re.search(f"{re.escape(direct[0].words)}|^internal error", through[0].words)
    elif name in LONGER:
        assert [outcome.status for outcome in through] == [outcome.status for outcome in direct]
        assert through[0].words.startswith(direct[0].words)
    elif name in SHARED and direct != through:
        refused = {"INVALID_ARGUMENT", "PERMISSION_DENIED", "INTERNAL", "FAILED_PRECONDITION", direct[0].status}
        assert {outcome.status for outcome in through} <= refused - {None}
    else:
        assert [of_one(outcome) for outcome in through] == direct


@pytest.mark.parametrize("door", DOORS)
@pytest.mark.parametrize("name", ASKS)
def test_a_call(ways: dict[str, Door], clients: dict[str, triton.InferenceServerClient], name: str, door: str) -> None:
    direct = asked(clients["direct"], ASKS[name], {})
    times = 3 if door == "express" and name.startswith("infer") else 1  # the first is Python's
    for _ in range(times):
        compared(name, direct, asked(clients[door], ASKS[name], ways[door].headers))


@pytest.mark.parametrize("name", ASKS)
def test_a_call_with_asyncio(ways: dict[str, Door], name: str) -> None:
    async def both() -> tuple[list[Outcome], list[Outcome]]:
        return await asked_aio(ways["direct"], ASKS[name]), await asked_aio(ways[MOST], ASKS[name])

    compared(name, *asyncio.run(both()))


def test_every_call_of_the_client_is_made() -> None:
    """The controls: of the comparison, and of the list."""
    with pytest.raises(AssertionError):
        compared("infer", [Outcome(1)], [Outcome(2)])
    made = {each.method for asks in ASKS.values() for each in asks}
    for client in (triton.InferenceServerClient, triton_aio.InferenceServerClient):
        public = {name for name in vars(client) if not name.startswith("_")}
        streams = {"start_stream", "stop_stream", "async_stream_infer", "stream_infer", "async_infer"}
        assert public - made - streams == {"close"}


@needs_envoy
def test_the_express_lane_carries_calls_to_triton(
    ways: dict[str, Door], clients: dict[str, triton.InferenceServerClient]
) -> None:
    names = ["http.front.downstream_rq_total", "cluster.python.upstream_rq_total"]

    async def carried() -> int:
        socket = aiohttp.UnixConnector(str(ways["express"].folder / "admin.sock"))
        async with aiohttp.ClientSession(connector=socket) as session:
            found = await Admin(session, "front").statistics(names)
        return int(found[names[0]]) - int(found[names[1]])

    pinned = add(model_version="1")
    direct = asked(clients["direct"], [pinned], {})
    before = asyncio.run(carried())

    def one_more() -> bool:
        assert asked(clients["express"], [pinned], ways["express"].headers) == direct
        return asyncio.run(carried()) > before

    until(one_more)


# ---- calls that answer later, and streams ----


@pytest.mark.parametrize("door", DOORS)
def test_async_infer(ways: dict[str, Door], clients: dict[str, triton.InferenceServerClient], door: str) -> None:
    def outcome(client: triton.InferenceServerClient, model: str, headers: dict[str, str]) -> Outcome:
        came = queue.Queue[Outcome]()

        def callback(result: Any, error: Any) -> None:
            came.put(failed(error) if error else Outcome(told(result)))

        client.async_infer(model, pair(), callback, request_id="9", headers=headers)
        return came.get(timeout=20)

    for model in ("add", "ghost"):
        assert outcome(clients[door], model, ways[door].headers) == outcome(clients["direct"], model, {})


def in_stream(
    client: triton.InferenceServerClient, asks: list[Ask], count: int, headers: dict[str, str], **more: Any
) -> list[Outcome]:
    """What a stream of these messages brings, until there are so many answers."""
    came = queue.Queue[Outcome]()
    client.start_stream(
        lambda result, error: came.put(failed(error) if error else Outcome(told(result))), headers=headers, **more
    )
    try:
        for each in asks:
            client.async_stream_infer(*each.arguments, **each.more)
        return [came.get(timeout=20) for _ in range(count)]
    finally:
        client.stop_stream()


def said(model: str, inputs: list[triton.InferInput], **more: Any) -> Ask:
    return ask("async_stream_infer", model, inputs, **more)


def counted(value: float) -> list[triton.InferInput]:
    return [tensor(triton, "x", "FP32", floats(value))]


def of_request(outcomes: list[Outcome], request: str) -> list[Outcome]:
    return [outcome for outcome in outcomes if outcome.answer["id"] == request]


STREAMS: dict[str, tuple[list[Ask], int]] = {
    "messages": ([said("add", pair(), request_id=str(at)) for at in range(5)], 5),
    "a version": ([said("versions", pair((1, 2)), model_version="1")], 1),
    "a decoupled model": ([said("count", counted(4), request_id="1")], 4),
    "a decoupled model of our worker's kind": ([said("workers", counted(2), request_id="1")], 2),
    "its end": ([said("count", counted(2), enable_empty_final_response=True)], 3),
    "no answer but its end": ([said("count", counted(0), enable_empty_final_response=True)], 1),
    "an error, and on": ([said("add", x(1), request_id="1"), said("add", pair(), request_id="2")], 2),
    "what the model refuses": ([said("slow", x(-1), request_id="1")], 1),
    "a model that is not there": ([said("ghost", pair())], 1),
    "a sequence": (
        [
            said("sum", x(1), sequence_id=9, sequence_start=True),
            said("sum", x(2), sequence_id=9),
            said("sum", x(3), sequence_id=9, sequence_end=True),
        ],
        3,
    ),
    "a priority and parameters": ([said("add", pair(), priority=1, parameters={"k": "v"})], 1),
}


@pytest.mark.parametrize("door", DOORS)
@pytest.mark.parametrize("name", STREAMS)
def test_a_stream(
    ways: dict[str, Door], clients: dict[str, triton.InferenceServerClient], name: str, door: str
) -> None:
    asks, count = STREAMS[name]
    direct = in_stream(clients["direct"], asks, count, {})
    assert in_stream(clients[door], asks, count, ways[door].headers) == direct


@pytest.mark.parametrize("name", STREAMS)
def test_a_stream_with_asyncio(ways: dict[str, Door], name: str) -> None:
    asks, count = STREAMS[name]
    ends = sum("enable_empty_final_response" in each.more for each in asks)  # which this client does not give out

    async def messages() -> AsyncIterator[dict[str, Any]]:
        for each in asks:
            model, inputs = each.arguments
            yield {"model_name": model, "inputs": inputs, **each.more}

    async def came(way: Door) -> list[Outcome]:
        outcomes: list[Outcome] = []
        async with triton_aio.InferenceServerClient(way.address) as client:
            async for result, error in client.stream_infer(messages(), headers=way.headers):
                outcomes.append(failed(error) if error else Outcome(told(result)))
        return outcomes

    async def both() -> tuple[list[Outcome], list[Outcome]]:
        return await came(ways["direct"]), await came(ways[MOST])

    direct, through = asyncio.run(both())
    assert len(direct) == count - ends
    assert through == direct


@pytest.mark.parametrize("door", DOORS)
def test_several_models_in_one_stream(
    ways: dict[str, Door], clients: dict[str, triton.InferenceServerClient], door: str
) -> None:
    """Each model gets a stream of its own: Triton 2.51 dies of a decoupled model and another in one.

    https://github.com/triton-inference-server/server/issues/7472
    """
    adds = [said("add", pair(), request_id=f"a{at}") for at in range(3)]
    counts = [said("count", counted(2), request_id=f"c{at}") for at in range(3)]
    mixed = [each for two in zip(adds, counts, strict=True) for each in two]
    through = in_stream(clients[door], mixed, 9, ways[door].headers)
    direct = in_stream(clients["direct"], adds, 3, {})
    assert [outcome for outcome in through if outcome.answer["model_name"] == "add"] == direct  # order is kept
    direct = in_stream(clients["direct"], counts, 6, {})
    for each in ("c0", "c1", "c2"):  # Triton itself mixes the answers of decoupled requests
        assert of_request(through, each) == of_request(direct, each)


@pytest.mark.parametrize("door", DOORS)
def test_a_refusal_of_a_stream_by_its_status(
    ways: dict[str, Door], clients: dict[str, triton.InferenceServerClient], door: str
) -> None:
    """The gateway's own: Triton 2.51 may die of `triton_grpc_error` where a model answers with an error."""
    strict = {"triton_grpc_error": "true"}
    (through,) = in_stream(clients[door], [said("nope", pair())], 1, ways[door].headers | strict)
    assert (through.status, through.words) == ("NOT_FOUND", "there is no model 'nope'")


@pytest.mark.parametrize("door", DOORS)
def test_a_stream_of_a_stranger_s_model(
    ways: dict[str, Door], clients: dict[str, triton.InferenceServerClient], door: str
) -> None:
    """The gateway's word, in-band as Triton's."""
    (direct,) = in_stream(clients["direct"], [said("nope", pair())], 1, {})
    (through,) = in_stream(clients[door], [said("nope", pair())], 1, ways[door].headers)
    assert (direct.status, through.status) == ("", "")
    assert "nope" in direct.words
    assert "there is no model 'nope'" in through.words


@pytest.mark.parametrize("door", ["direct", *DOORS])
def test_a_stream_ends_at_its_deadline_or_when_told(
    triton: Triton, ways: dict[str, Door], clients: dict[str, triton.InferenceServerClient], door: str
) -> None:
    with triton.noted("slow").held():
        (late,) = in_stream(clients[door], [said("slow", x(1))], 1, ways[door].headers, stream_timeout=0.5)
        assert late.status == "DEADLINE_EXCEEDED"
        came = queue.Queue[Any]()
        clients[door].start_stream(lambda result, error: came.put((result, error)), headers=ways[door].headers)
        clients[door].async_stream_infer("slow", x(1))
        clients[door].stop_stream(cancel_requests=True)
        result, error = came.get(timeout=20)
        assert result is None and error.status() == "StatusCode.CANCELLED"


# ---- a caller that leaves ----


def begun(client: triton.InferenceServerClient, model: str, value: float, headers: dict[str, str], **more: Any) -> Any:
    """A call, and where its outcome comes."""
    came = queue.Queue[Outcome]()

    def callback(result: Any, error: Any) -> None:
        came.put(failed(error) if error else Outcome(float(result.as_numpy("y")[0, 0])))

    return client.async_infer(model, x(value), callback, headers=headers, **more), came


@pytest.mark.parametrize("door", ["direct", *DOORS])
def test_queued_work_of_a_departed_caller_is_not_executed(
    triton: Triton, ways: dict[str, Door], clients: dict[str, triton.InferenceServerClient], door: str
) -> None:
    noted, headers = triton.noted("slow"), ways[door].headers
    clients["direct"].infer("slow", x(0))  # all that came before has been run
    before = len(noted.ran())
    with triton.leaving(clients["direct"]) as left, noted.held():
        _, first = begun(clients[door], "slow", 1, headers)
        until(lambda: len(noted.ran()) > before)
        gone, its = begun(clients[door], "slow", 2, headers)
        until(lambda: triton.waiting("slow") == 1)
        _, stays = begun(clients[door], "slow", 3, headers)
        until(lambda: triton.waiting("slow") == 2)
        gone.cancel()
        assert its.get(timeout=20).status == "CANCELLED"
        until(left)
    assert first.get(timeout=20) == Outcome(2.0)
    assert stays.get(timeout=20) == Outcome(6.0)
    assert noted.ran()[before:] == [1, 3]


def test_without_a_queue_policy_triton_takes_it_out_of_the_queue_too_early(
    triton: Triton, clients: dict[str, triton.InferenceServerClient]
) -> None:
    """The control: what keeps work from running is the queue, where a policy has it looked at before it is run."""
    noted, client = triton.noted("late"), clients["direct"]
    client.infer("late", x(0))
    before = len(noted.ran())
    with triton.leaving(client) as left, noted.held():
        _, first = begun(client, "late", 1, {})
        until(lambda: len(noted.ran()) > before)
        gone, its = begun(client, "late", 2, {})
        until(lambda: triton.waiting("late") == 1)
        gone.cancel()
        assert its.get(timeout=20).status == "CANCELLED"
        until(left)
    assert first.get(timeout=20) == Outcome(2.0)
    until(lambda: noted.ran()[before:] == [1, 2])


# ---- what its queue is told ----


@pytest.mark.parametrize("door", DOORS)
def test_what_time_is_left_is_told_to_the_queue(
    triton: Triton, ways: dict[str, Door], clients: dict[str, triton.InferenceServerClient], door: str
) -> None:
    """Triton takes what the gateway writes; and what it then says is a deadline that has passed."""
    noted, client, headers = triton.noted("hasty"), clients[door], ways[door].headers
    assert client.infer("hasty", x(1), headers=headers).as_numpy("y")[0, 0] == 2
    before, rejected = len(noted.ran()), triton.failed("hasty", "REJECTED")
    with noted.held():
        others = [begun(clients["direct"], "hasty", 1, {})]
        until(lambda: len(noted.ran()) > before)
        for value in (2, 3):  # which it takes out of the queue at once
            others.append(begun(clients["direct"], "hasty", value, {}))
            until(lambda: triton.waiting("hasty") == len(others) - 1)
        _, late = begun(client, "hasty", 4, headers, timeout=1000)  # a millisecond
        until(lambda: triton.waiting("hasty") == 3)
    assert [one.get(timeout=20) for _, one in others] == [Outcome(2.0), Outcome(4.0), Outcome(6.0)]
    assert late.get(timeout=20) == Outcome(status="DEADLINE_EXCEEDED", words="time is up")
    assert triton.failed("hasty", "REJECTED") == rejected + 1
    assert noted.ran()[before:] == [1, 2, 3]


@pytest.mark.parametrize("door", DOORS)
def test_a_level_is_told_to_the_queue(
    triton: Triton, ways: dict[str, Door], clients: dict[str, triton.InferenceServerClient], door: str
) -> None:
    """Those of the caller whose grant has the level 3 come last, whatever they ask for."""
    noted, bounded = triton.noted("hasty"), ways[door].headers | ways[door].bounded
    clients["direct"].infer("hasty", x(0))
    before = len(noted.ran())
    with noted.held():
        came = [begun(clients["direct"], "hasty", 0, {})]
        until(lambda: len(noted.ran()) > before)
        for value, headers, more in [(1, bounded, {"priority": 1}), (2, bounded, {}), (3, ways[door].headers, {})]:
            came.append(begun(clients[door], "hasty", value, headers, **more))
            until(lambda: triton.waiting("hasty") == len(came) - 1)
    assert [outcome.get(timeout=20).status for _, outcome in came] == [None] * 4
    assert noted.ran()[before:] == [0, 3, 1, 2]
