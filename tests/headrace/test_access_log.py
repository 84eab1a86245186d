"""The access log of a gateway with an Envoy in front: one line for each call, by whom it was answered."""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import shutil
import socket
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path
from typing import Any

import aiohttp
import grpc
import grpc.aio
import pytest
import pytest_asyncio

from gateway.settings import load
from headrace import door
from headrace.express import front_of, taken
from loadtest import http2
from mesh.envoy.admin import Admin
from mesh.express import lines as of_envoy
from mesh.express.front import bootstrap
from mesh.local import process
from mesh.local.files import clusters_file, put
from tests.envoy import ENVOY, needs_envoy
from tests.gateway import world as worlds
from tests.gateway.test_service import refused
from tests.gateway.test_traces import CALLER, sink
from tests.gateway.tokens import Issuer
from tests.gateway.world import CLIENT, INFER, SERVICE, STREAM, World, failing, hanging
from tests.headrace.test_express import MESSAGE, asked_raw, by_the_lane, changed, envoys, infer, raw, until_carried

pytestmark = needs_envoy

Line = dict[str, Any]
Code = grpc.StatusCode
TO_PYTHON = ("a_b", "1")  # a key that the lane leaves to it
OF_A_CALL = {"time", "duration_ms", "headrace.request.id", "headrace.lane"}
BOTH = {"python", "express"}
METHOD = "inference.GRPCInferenceService/ModelInfer"


def to(name: str = "access.log", **telemetry: Any) -> Callable[[dict[str, Any]], None]:
    return lambda config: config["telemetry"].update(access_log=name, **telemetry)


@pytest.fixture(autouse=True)
def _soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process, "_FLUSH", (process._FLUSH[0], "20"))


@pytest_asyncio.fixture
async def logged(tmp_path: Path) -> AsyncIterator[World]:
    async with worlds.world(tmp_path, to(), express=True) as made:
        yield made


def lines(world: World, name: str = "access.log") -> list[Line]:
    """Those that are whole."""
    text = (world.folder / name).read_text()
    return [json.loads(line) for line in text[: text.rfind("\n") + 1].splitlines()]


async def line_of(world: World, request_id: str | bytes, name: str = "access.log") -> Line:
    """The line of one call, once it is there."""
    async with asyncio.timeout(10):
        while not (found := [line for line in lines(world, name) if line.get("headrace.request.id") == request_id]):
            await asyncio.sleep(0.02)
    (line,) = found
    return line


def told_id(world: World) -> str | bytes:
    """The id of the call that the first worker has got last."""
    return dict(world.one.metadata[-1])["x-request-id"]


async def all_lines(world: World) -> list[Line]:
    """The lines of all calls so far, and not those of the two that are made here, by each lane, to see them out."""
    last = []
    for call in (lambda: by_the_lane(world, lambda: infer(world)), lambda: infer(world, more=[TO_PYTHON])):
        before = len(world.one.calls)
        await call()
        last += [dict(told)["x-request-id"] for told in world.one.metadata[before:]]
    for request_id in last:
        await line_of(world, request_id)
    return [line for line in lines(world) if line.get("headrace.request.id") not in last]


async def quietly(call: Any) -> None:
    with contextlib.suppress(grpc.aio.AioRpcError, asyncio.CancelledError):
        await call


# ---- what both say ----


async def by_each(world: World, message: bytes, more: Sequence[tuple[str, str]] = ()) -> tuple[Line, Line]:
    """The lines of the same call, by Python and by the lane."""
    got = []
    for call in (
        lambda: quietly(infer(world, message, [*more, TO_PYTHON])),
        lambda: by_the_lane(world, lambda: quietly(infer(world, message, more))),
    ):
        await call()
        got.append(await line_of(world, told_id(world)))
    python, lane = got
    assert (python["headrace.lane"], lane["headrace.lane"]) == ("python", "express")
    return python, lane


def same(python: Line, lane: Line) -> Line:
    """What both say, which is everything but what no two calls have in common."""
    assert set(python) == set(lane)
    for line in (python, lane):
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", line["time"])
        assert re.fullmatch("[0-9a-f]{32}", line["headrace.request.id"])
        assert isinstance(line["duration_ms"], int) and 0 <= line["duration_ms"] < 10_000
    assert list(python) == list(lane) == sorted(lane)
    told = {name: value for name, value in lane.items() if name not in OF_A_CALL}
    assert {name: value for name, value in python.items() if name not in OF_A_CALL} == told
    return told


async def test_the_same_call_has_the_same_line_by_both_lanes(logged: World) -> None:
    told = same(*await by_each(logged, MESSAGE))
    assert told == {
        "headrace.caller": "tester@https://id.example/",
        "headrace.grant": "scope=all",
        "headrace.model.name": "digits",
        "http.request.body.size": len(MESSAGE) + 5,
        "http.response.body.size": 16,
        "network.peer.address": "127.0.0.1",
        "rpc.method": METHOD,
        "rpc.response.status_code": "OK",
    }
    told = same(*await by_each(logged, changed(model_version="1"), [("traceparent", CALLER)]))
    assert (told["headrace.model.version.asked"], told["trace_id"]) == ("1", "a1" * 16)


async def test_the_same_failure_has_the_same_line_by_both_lanes(logged: World) -> None:
    await until_carried(logged)
    reasons = {}
    for status in set(Code) - {Code.OK}:
        logged.one.behaviour[INFER] = failing(status, "no")
        told = same(*await by_each(logged, MESSAGE))
        if "headrace.reason" in told:
            reasons[status] = (told["rpc.response.status_code"], told["headrace.reason"])
        else:
            assert told["rpc.response.status_code"] == status.name
    internal = {Code.CANCELLED, Code.UNKNOWN, Code.INTERNAL, Code.DATA_LOSS}
    assert reasons == {
        Code.DEADLINE_EXCEEDED: ("DEADLINE_EXCEEDED", "DEADLINE"),
        Code.RESOURCE_EXHAUSTED: ("RESOURCE_EXHAUSTED", "OVERLOADED"),
        Code.UNAVAILABLE: ("UNAVAILABLE", "MODEL_NOT_READY"),
        **dict.fromkeys(internal, ("INTERNAL", "INTERNAL")),
    }


@pytest.mark.parametrize("early", [False, True])
async def test_a_call_that_is_cancelled(early: bool, logged: World) -> None:
    """Before there is an answer, or when it has begun."""
    reached = asyncio.Event()

    async def begin(message: bytes, context: grpc.aio.ServicerContext) -> bytes:
        await context.send_initial_metadata((("a", "b"),))
        return await hanging(reached)(message, context)

    await until_carried(logged)
    got = []
    for more in ([TO_PYTHON], []):
        logged.one.behaviour[INFER] = begin if early else hanging(reached)
        async with grpc.aio.insecure_channel(logged.address, options=CLIENT) as channel:
            infers, bearer = channel.unary_unary(INFER), logged.bearer()
            call = infers(MESSAGE, metadata=[bearer, *more], timeout=10)
            await reached.wait()
            reached.clear()
            request_id = told_id(logged)
            del logged.one.behaviour[INFER]
            await infers(MESSAGE, metadata=[bearer, *more], timeout=10)  # what its answer follows has come, too
            call.cancel()
        got.append(await line_of(logged, request_id))
    told = same(*got)
    assert (told["rpc.response.status_code"], "headrace.reason" in told) == ("CANCELLED", False)


async def test_a_caller_whose_connection_ends(logged: World) -> None:
    reached = asyncio.Event()
    await until_carried(logged)
    logged.one.behaviour[INFER] = hanging(reached)
    got = []
    for more in ([TO_PYTHON], []):
        with raw(logged.address, INFER, [logged.bearer(), *more]) as connection:
            message = b"\0" + len(MESSAGE).to_bytes(4, "big") + MESSAGE
            connection.sendall(http2.frame(http2.DATA, http2.END_STREAM, 1, message))
            await reached.wait()
            reached.clear()
        got.append(await line_of(logged, told_id(logged)))
    assert same(*got)["rpc.response.status_code"] == "CANCELLED"


async def test_a_deadline_that_passes(logged: World) -> None:
    """Envoy does not know when a caller leaves that it does so for its deadline."""
    await until_carried(logged)
    logged.one.behaviour[INFER] = hanging(asyncio.Event())
    told = []
    for more in ([TO_PYTHON], []):
        await quietly(logged.channel.unary_unary(INFER)(MESSAGE, metadata=[logged.bearer(), *more], timeout=0.2))
        told.append((await line_of(logged, told_id(logged)))["rpc.response.status_code"])
    assert told == ["DEADLINE_EXCEEDED", "CANCELLED"]


# ---- one for each ----


async def test_each_call_has_one_line(logged: World) -> None:
    await until_carried(logged)
    before = len(await all_lines(logged))
    world, reached = logged, asyncio.Event()
    method, stream = world.channel.unary_unary(INFER), world.channel.stream_stream(STREAM)
    bearer = [world.bearer()]
    await world.channel.unary_unary(SERVICE + "ServerLive")(b"")
    await quietly(method(MESSAGE, timeout=10))
    await quietly(method(MESSAGE, metadata=[("authorization", "Bearer x")], timeout=10))
    await quietly(infer(world, changed(model_name="secret")))
    await quietly(infer(world, changed(model_version="9")))
    await quietly(infer(world, b"\xff"))
    await quietly(infer(world, bytes(70 * 1024**2)))
    await asyncio.to_thread(asked_raw, world.address, INFER, "k" * 2000)
    streaming = stream(metadata=bearer, timeout=10)
    for _ in range(2):
        await streaming.write(MESSAGE)
        await streaming.read()
    await streaming.done_writing()
    assert await streaming.code() is Code.OK
    silent = world.channel.stream_unary(INFER)(metadata=bearer)  # its message is waited for where nobody else is asked
    await silent.wait_for_connection()
    await by_the_lane(world, lambda: infer(world))
    silent.cancel()
    world.one.behaviour[INFER] = hanging(reached)
    leaving = infer(world, more=[TO_PYTHON])
    task = asyncio.ensure_future(leaving)
    await reached.wait()
    task.cancel()
    await quietly(task)
    del world.one.behaviour[INFER]
    await world.channel.unary_unary("/grpc.health.v1.Health/Check")(b"")  # has none
    await quietly(world.channel.unary_unary("/no/such")(b"", timeout=10))  # nor what is no RPC of ours

    found = (await all_lines(world))[before:]
    said = [(line["headrace.lane"], line["rpc.response.status_code"], line.get("headrace.reason")) for line in found]
    by_lane = [one for one in said if one[0] == "express"]
    assert by_lane
    assert set(by_lane) == {("express", "OK", None)}
    others = sorted((status, reason or "") for lane, status, reason in said if lane == "python")
    assert [one for one in others if one != ("OK", "")] == [
        ("CANCELLED", ""),
        ("CANCELLED", ""),
        ("INVALID_ARGUMENT", ""),  # the key that is too long
        ("INVALID_ARGUMENT", "REQUEST_MALFORMED"),
        ("NOT_FOUND", "VERSION_UNKNOWN"),
        ("PERMISSION_DENIED", "NOT_GRANTED"),
        ("RESOURCE_EXHAUSTED", ""),  # more than is held back
        ("UNAUTHENTICATED", "TOKEN_INVALID"),
        ("UNAUTHENTICATED", "TOKEN_MISSING"),
    ]
    answered = [
        line for line in found if line["rpc.response.status_code"] == "OK" and line["headrace.lane"] == "python"
    ]
    assert {f"inference.GRPCInferenceService/{name}" for name in ("ServerLive", "ModelStreamInfer")} <= {
        line["rpc.method"] for line in answered
    }
    (streamed,) = [line for line in answered if line["rpc.method"].endswith("/ModelStreamInfer")]
    assert streamed["http.request.body.size"] == 2 * (len(MESSAGE) + 5)
    ids = [line["headrace.request.id"] for line in found if "headrace.request.id" in line]
    assert len(ids) == len(set(ids))
    whole = [line.get("headrace.request.id") for line in lines(world)]
    assert {whole.count(dict(told)["x-request-id"]) for told in world.one.metadata} == {1}
    text = (world.folder / "access.log").read_text()
    assert world.bearer()[1].split()[1] not in text


async def test_who_does_not_look_whether_python_has_a_call_writes_it_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(of_envoy, "UNSEEN", of_envoy.only("upstream.request_attempt_count > 0"))
    async with worlds.world(tmp_path, to(), express=True) as world:
        await quietly(world.channel.unary_unary(INFER)(MESSAGE, timeout=10))
        async with asyncio.timeout(10):
            while len(lines(world)) < 2:
                await asyncio.sleep(0.02)


def test_where_there_is_none_nothing_is_done_for_it(tmp_path: Path) -> None:
    path = worlds.in_front_of("127.0.0.1:1", tmp_path, Issuer(), "digits", telemetry={"metrics": False})
    text = json.dumps(bootstrap(front_of(load(path, {}), tmp_path)))
    assert not [word for word in ("access_log", "header_to_metadata", "DIRECT_REMOTE") if word in text]


# ---- what callers say ----

FORGED = [
    ("x-request-id", "6" * 32),
    ("x-caller", "root"),
    ("x-grant", "root"),
    ("x-model-name", "secret"),
    ("x-headrace-lane", "express"),
]


def without_authority(world: World, said: Sequence[tuple[str, str]]) -> None:
    """Call in a way that is answered before the headers are looked at."""
    host, _, port = world.address.rpartition(":")
    fields = [(":method", "POST"), (":scheme", "http"), (":path", INFER), ("te", "trailers")]
    block = http2.literal([*fields, ("content-type", "application/grpc"), *said])
    with socket.create_connection((host, int(port)), timeout=2) as connection:
        call = http2.frame(http2.HEADERS, http2.END_HEADERS | http2.END_STREAM, 1, block)
        connection.sendall(http2.PREFACE + http2.frame(http2.SETTINGS, 0, 0) + call)
        connection.recv(65536)


async def forged(world: World) -> list[Line]:
    """Lines that a stranger has a hand in."""
    await asyncio.to_thread(without_authority, world, FORGED)
    await quietly(world.channel.unary_unary(INFER)(MESSAGE, metadata=FORGED, timeout=10))
    await quietly(infer(world, more=[*FORGED, ("x-headrace-peer", "6.6.6.6"), TO_PYTHON]))
    await by_the_lane(world, lambda: infer(world, more=[*FORGED, ("x-headrace-peer", "6.6.6.6")]))
    said = re.compile("root|secret|6666|6\\.6\\.6\\.6")
    return [line for line in await all_lines(world) if said.search(json.dumps(line))]


async def test_callers_have_no_hand_in_what_is_said_of_them(logged: World) -> None:
    assert await forged(logged) == []


async def test_a_lane_that_went_by_headers_would_be_deceived(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    by_header = {"header_filter": {"header": {"name": "x-caller", "present_match": True}}}
    monkeypatch.setattr(of_envoy, "only", lambda _expression: by_header)
    async with worlds.world(tmp_path, to(), express=True) as world:
        assert "root" in {line.get("headrace.caller") for line in await forged(world)}


async def test_a_caller_with_a_long_name(logged: World) -> None:
    async def call(*more: tuple[str, str]) -> None:
        metadata = [logged.bearer(sub="\u00fc" * 250), *more]
        await logged.channel.unary_unary(INFER)(MESSAGE, metadata=metadata, timeout=10)

    for calling in (call(TO_PYTHON), by_the_lane(logged, call)):
        await calling
        assert (await line_of(logged, told_id(logged)))["headrace.caller"] == ("%C3%BC" * 250)[:1024]


async def test_a_name_does_not_break_a_line(logged: World) -> None:
    names = ['a"},\n{"headrace.caller":"root', "\u2028\x00\x1b[2J\u00e9\U0001f600", "\n" * 1024]
    for name in names:
        await quietly(infer(logged, changed(model_name=name)))
    refused = [line for line in await all_lines(logged) if line.get("headrace.reason") == "NOT_GRANTED"]
    assert [line["headrace.model.name"] for line in refused[:2]] == names[:2]
    left = refused[2]["headrace.model.name"]
    assert names[2].startswith(left)
    assert 300 < len(left) <= 512  # of two letters each as they are written


# ---- traces ----


@pytest.mark.parametrize("sample", [0.0, 1.0])
async def test_the_trace_is_that_which_can_be_found(sample: float, tmp_path: Path) -> None:
    async with sink() as traces, worlds.world(tmp_path, to(otlp=traces.url, sample=sample), express=True) as world:
        for call in (
            lambda: infer(world, more=[TO_PYTHON]),
            lambda: by_the_lane(world, lambda: infer(world)),
        ):
            await call()
            told = dict(world.one.metadata[-1])
            line = await line_of(world, told["x-request-id"])
            assert line.get("trace_id") == (str(told["traceparent"])[3:35] if sample else None)


# ---- where Python does not answer ----


@contextlib.asynccontextmanager
async def alone(folder: Path) -> AsyncIterator[grpc.aio.Channel]:
    """The Envoy in front, and nothing behind it that we would not start ourselves."""
    path = worlds.in_front_of("127.0.0.1:1", folder, Issuer(), "digits", telemetry={"access_log": "access.log"})
    settings = load(path, {})
    made = front_of(settings, folder)
    made.clusters.parent.mkdir()
    put(made.clusters, clusters_file([], made.clusters.parent).text)
    with taken(settings, made.lines, None):
        envoy = await process.start(Path(ENVOY or ""), bootstrap(made), folder / "envoy.log")
        try:
            async with aiohttp.ClientSession(connector=aiohttp.UnixConnector(str(made.admin))) as session:
                address = await door._up(envoy, Admin(session, "front"))
            async with grpc.aio.insecure_channel(address, options=CLIENT) as channel:
                yield channel
        finally:
            await envoy.stop()


@pytest.mark.parametrize("dies", [False, True])
async def test_a_call_that_python_does_not_live_to_answer(dies: bool, tmp_path: Path) -> None:
    async def die(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readexactly(len(MESSAGE))  # of its preface and the call
        writer.transport.abort()

    async with contextlib.AsyncExitStack() as stack:
        if dies:
            await stack.enter_async_context(await asyncio.start_unix_server(die, tmp_path / "python-0.sock"))
        channel = await stack.enter_async_context(alone(tmp_path))
        metadata = [("authorization", "Bearer x"), *FORGED, ("traceparent", CALLER)]
        for path in (INFER, "/no/such"):
            call = channel.unary_unary(path)(MESSAGE, metadata=metadata, timeout=10)
            await quietly(call)
            assert await call.code() is Code.UNAVAILABLE
    (line,) = [json.loads(each) for each in (tmp_path / "access.log").read_text().splitlines()]
    del line["time"], line["duration_ms"]
    assert line == {
        "headrace.lane": "python",
        "http.request.body.size": len(MESSAGE) + 5,
        "http.response.body.size": 0,
        "network.peer.address": "127.0.0.1",
        "rpc.method": METHOD,
        "rpc.response.status_code": "UNAVAILABLE",
    }


# ---- the file ----


async def lines_by_each(world: World, name: str = "access.log") -> None:
    """Returns once lines of both lanes come there."""
    async with asyncio.timeout(15):
        while not (world.folder / name).exists() or {line["headrace.lane"] for line in lines(world, name)} != BOTH:
            await infer(world, more=[TO_PYTHON])
            await infer(world)
            await asyncio.sleep(0.05)


async def test_a_file_that_is_made_short_goes_on_from_its_beginning(logged: World) -> None:
    await lines_by_each(logged)
    path = logged.folder / "access.log"
    with path.open("r+") as file:
        file.truncate(0)
    await lines_by_each(logged)
    assert path.read_bytes().startswith(b"{")


async def test_a_file_that_is_moved_away_gets_a_successor(logged: World) -> None:
    await lines_by_each(logged)
    (logged.folder / "access.log").rename(logged.folder / "access.log.1")
    await lines_by_each(logged)


async def test_a_full_disk_costs_no_call(logged: World, caplog: pytest.LogCaptureFixture) -> None:
    path = logged.folder / "access.log"
    await lines_by_each(logged)
    path.rename(logged.folder / "access.log.1")
    path.symlink_to("/dev/full")
    async with asyncio.timeout(15):
        while caplog.text.count("No space left on device") < 2:  # of each lane's lines it is told for itself
            await infer(logged, more=[TO_PYTHON])
            await infer(logged)
            await asyncio.sleep(0.05)
    path.unlink()
    await lines_by_each(logged)


async def test_a_folder_that_is_gone_costs_no_call(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    folder = tmp_path / "logs"
    folder.mkdir()
    async with worlds.world(tmp_path, to("logs/access.log"), express=True) as world:
        await lines_by_each(world, "logs/access.log")
        shutil.rmtree(folder)
        async with asyncio.timeout(15):
            while caplog.text.count("No such file or directory") < 2:
                await infer(world, more=[TO_PYTHON])
                await infer(world)
                await asyncio.sleep(0.05)
        folder.mkdir()
        await lines_by_each(world, "logs/access.log")


async def test_another_envoy_goes_on_with_it(logged: World) -> None:
    await lines_by_each(logged)
    (envoy,) = envoys(logged.folder)
    envoy.kill()
    (logged.folder / "access.log").rename(logged.folder / "access.log.1")
    async with asyncio.timeout(20):
        while len([line for line in told(logged) if line["headrace.lane"] == "express"]) < 2:
            with contextlib.suppress(grpc.aio.AioRpcError):  # while there is none
                await infer(logged)
            await asyncio.sleep(0.02)


def told(world: World) -> list[Line]:
    return lines(world) if (world.folder / "access.log").exists() else []


async def test_it_may_be_standard_output(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    async with worlds.world(tmp_path, to("-"), express=True) as world:
        await until_carried(world)
        await asyncio.gather(*(infer(world, more=[TO_PYTHON] if number % 2 else []) for number in range(100)))
        ids = {dict(told)["x-request-id"] for told in world.one.metadata}
    found = [json.loads(line) for line in capfd.readouterr().out.splitlines()]
    assert {line["headrace.request.id"] for line in found} == ids
    assert {line["headrace.lane"] for line in found} == BOTH


async def test_calls_that_we_end_are_not_said_to_have_been_left(tmp_path: Path) -> None:
    def hurried(config: dict[str, Any]) -> None:
        to()(config)
        config["listen"]["drain"] = "100ms"

    reached = asyncio.Event()
    async with contextlib.AsyncExitStack() as stack:
        async with worlds.world(tmp_path, hurried, express=True, drains=True) as world:
            channel = await stack.enter_async_context(grpc.aio.insecure_channel(world.address, options=CLIENT))
            world.one.behaviour[INFER] = hanging(reached)
            call = channel.unary_unary(INFER)(MESSAGE, metadata=[world.bearer(), TO_PYTHON], timeout=20)
            told = asyncio.ensure_future(refused(call))
            await reached.wait()
        assert (await told).status is Code.UNAVAILABLE
    (line,) = lines(world)
    assert line["rpc.response.status_code"] == "UNAVAILABLE"
