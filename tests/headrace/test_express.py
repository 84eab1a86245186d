"""The express lane: what it carries, what it leaves to Python, and what becomes of it when things change."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import signal
import socket
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

import aiohttp
import grpc
import grpc.aio
import psutil
import pytest
import pytest_asyncio
from grpc_health.v1 import health_pb2
from grpc_reflection.v1alpha import reflection_pb2 as pb_reflection

from gateway import asked
from gateway.errors import StartError
from headrace import door
from loadtest import http2
from mesh.envoy.admin import Admin
from mesh.express import front, parts, rules
from mesh.local import process
from mesh.testing.calls import interval
from protos import grpc_service_pb2 as pb
from tests.envoy import needs_envoy
from tests.gateway import world as worlds
from tests.gateway.mesh_world import behind_a_mesh
from tests.gateway.test_service import refused
from tests.gateway.tokens import Issuer
from tests.gateway.world import CLIENT, INFER, Metadata, World, echo, failing

pytestmark = needs_envoy

Code = grpc.StatusCode
T = TypeVar("T")
PLAIN = pb.ModelInferRequest(model_name="digits", id="7")
PLAIN.inputs.add(name="image", datatype="FP32", shape=[1, 64])
PLAIN.outputs.add(name="label")
PLAIN.raw_input_contents.append(bytes(256))
MESSAGE = PLAIN.SerializeToString()
LESSON = "x-headrace-permit"
_ALL, _PYTHONS = "http.front.downstream_rq_total", "cluster.python.upstream_rq_total"


@pytest_asyncio.fixture
async def express(tmp_path: Path) -> AsyncIterator[World]:
    async with worlds.world(tmp_path, express=True) as made:
        yield made


@contextlib.asynccontextmanager
async def pages(world: World) -> AsyncIterator[Admin]:
    """The admin pages of the Envoy in front."""
    async with aiohttp.ClientSession(connector=aiohttp.UnixConnector(str(world.folder / "admin.sock"))) as session:
        yield Admin(session, "front")


async def carried(world: World) -> int:
    """How many calls have been answered past Python."""
    async with pages(world) as admin:
        found = await admin.statistics([_ALL, _PYTHONS])
    return int(found[_ALL]) - int(found[_PYTHONS])


async def infer(world: World, message: bytes = MESSAGE, more: Sequence[tuple[str, str | bytes]] = ()) -> bytes:
    metadata = [world.bearer(), *more]
    return await world.channel.unary_unary(INFER)(message, metadata=metadata, timeout=10)


async def until_carried(world: World) -> int:
    """Calls until one is carried; how many have been by then."""
    before = await carried(world)
    async with asyncio.timeout(20):
        while (now := await carried(world)) == before:
            await infer(world)
    return now


async def by_the_lane(world: World, call: Callable[[], Awaitable[T]]) -> T:
    """What a call gives that is carried; now and then one is handed over, to ask whether all is as it was."""
    async with asyncio.timeout(20):
        while True:
            before = await carried(world)
            outcome = await call()
            if await carried(world) == before + 1:
                return outcome


# ---- what is carried ----


async def test_a_call_that_python_has_decided_is_carried(express: World) -> None:
    before = await until_carried(express)
    got = [pb.ModelInferResponse.FromString(await infer(express)) for _ in range(20)]
    assert {(one.model_name, one.id) for one in got} == {("digits", "7")}
    assert await carried(express) - before >= 15
    assert express.one.infers()[-1] == MESSAGE


async def test_what_the_worker_gets_is_what_python_would_send(express: World) -> None:
    more: Metadata = [("kept", "1"), ("kept", "2"), ("cookie", "x"), ("x-caller", "root"), ("x-b3-traceid", "1")]
    await infer(express, more=more)
    python = sorted(pair for pair in express.one.metadata[-1] if pair[0] != "user-agent")
    await by_the_lane(express, lambda: infer(express, more=more))
    lane = sorted(pair for pair in express.one.metadata[-1] if pair != ("x-envoy-attempt-count", "1"))
    assert [key for key, _ in lane] == [key for key, _ in python]
    ids = [dict(each)["x-request-id"] for each in (python, lane)]
    assert len(set(ids)) == 2
    assert all(len(each) == 32 and int(each, 16) for each in ids)
    assert [pair for pair in lane if pair[0] != "x-request-id"] == [
        pair for pair in python if pair[0] != "x-request-id"
    ]


async def test_a_large_message_goes_on_as_it_came(express: World) -> None:
    request = pb.ModelInferRequest(model_name="digits")
    for index in range(40):
        request.inputs.add(name=f"tensor {index}" * 20, datatype="FP32", shape=[1, 2, 3, 200_000])
        request.raw_input_contents.append(bytes([index]) * 100_000)
    await by_the_lane(express, lambda: infer(express, request.SerializeToString()))
    assert express.one.infers()[-1] == request.SerializeToString()


async def test_the_largest_message_is_carried(express: World) -> None:
    request = pb.ModelInferRequest(model_name="digits")
    request.raw_input_contents.append(bytes(64 * 1024**2 - 200))
    await by_the_lane(express, lambda: infer(express, request.SerializeToString()))
    assert len(express.one.infers()[-1]) == request.ByteSize()


async def test_versions_that_are_named_are_carried_to_their_copies(express: World) -> None:
    message = pb.ModelInferRequest(model_name="digits", model_version="2").SerializeToString()
    await by_the_lane(express, lambda: infer(express, message))
    assert dict(express.two.metadata[-1])["x-model-version"] == "2"


# ---- what is Python's ----


def changed(**fields: Any) -> bytes:
    request = pb.ModelInferRequest.FromString(MESSAGE)
    for name, value in fields.items():
        setattr(request, name, value)
    return request.SerializeToString()


def with_parameter() -> bytes:
    request = pb.ModelInferRequest.FromString(MESSAGE)
    request.parameters["priority"].int64_param = 1
    return request.SerializeToString()


def with_tensor(name: str) -> bytes:
    request = pb.ModelInferRequest.FromString(MESSAGE)
    request.inputs[0].name = name
    return request.SerializeToString()


def in_shared_memory() -> bytes:
    request = pb.ModelInferRequest.FromString(MESSAGE)
    request.inputs[0].parameters["shared_memory_region"].string_param = "r"
    return request.SerializeToString()


@dataclass(frozen=True)
class Case:
    """A call that is Python's, until the lane's script has `without` in place of a `check`."""

    check: str
    without: str
    message: bytes = MESSAGE
    metadata: tuple[tuple[str, str | bytes], ...] = ()
    gzip: bool = False
    status: grpc.StatusCode = Code.OK

    async def called(self, world: World) -> grpc.StatusCode:
        metadata = self.metadata if "authorization" in dict(self.metadata) else (world.bearer(), *self.metadata)
        compression = grpc.Compression.Gzip if self.gzip else None
        method = world.channel.unary_unary(INFER)
        call = method(self.message, metadata=metadata, timeout=10, compression=compression)
        with contextlib.suppress(grpc.aio.AioRpcError):
            await call
        return await call.code()


INVALID = Code.INVALID_ARGUMENT
TRACE = (("traceparent", f"00-{1:032x}-{1:016x}-00"),)
NOUGHTS, CAPITALS = f"00-{0:032x}-{1:016x}-00", f"00-{1:031x}A-{1:016x}-00"
STATE = (("tracestate", "a=1"),)
LONG_CONTEXT = f"00-{1:033x}-{1:016x}-00"
NO_CONTEXT = f"00-{1:032x}-{1:017x}-00"
CASES = {
    "a parameter": Case("elseif field == 7 then", "elseif field == 7 or field == 4 then", with_parameter()),
    "a tensor's parameter": Case("field == parameters or field == 0", "field == 0", in_shared_memory(), status=INVALID),
    "an unknown field": Case("elseif field == 7 then", "elseif field >= 7 then", MESSAGE + b"\x42\x00"),
    "a tensor's long name": Case(" or field <= 3 and length > LONGEST", "", with_tensor("x" * 1025)),
    "a model twice": Case("names[field] ~= nil or ", "", MESSAGE + b"\x0a\x06digits", status=INVALID),
    "a long id": Case("or length > LONGEST", "", changed(id="7" * 1025), status=INVALID),
    "an id of other letters": Case('find(names[3], "[^\\32-\\126]")', "false", changed(id="\u00fc")),
    "a length past the end": Case("if ends > stop then", "if false then", MESSAGE[:-1], status=INVALID),
    "a compressed message": Case("", "", gzip=True),  # nobody can carry what cannot be read
    "a key with _": Case('find(key, "[_.]") or ', "", metadata=(("a_b", "1"),)),
    "a binary key": Case('sub(key, -4) == "-bin" or ', "", metadata=(("a-bin", b"\x00"),)),
    "many keys": Case(
        "entries > RULES.most_entries or ", "", metadata=tuple((f"k{n}", "1") for n in range(60)), status=INVALID
    ),
    "large metadata": Case(" or bytes > RULES.most_bytes", "", metadata=(("k", "x" * 7000),), status=INVALID),
    "a trace's context that is none": Case(" or #span ~= 16", "", metadata=(("traceparent", NO_CONTEXT),)),
    "a trace's context that is long": Case(" or #trace ~= 32", "", metadata=(("traceparent", LONG_CONTEXT),)),
    "a trace's states": Case(' or headers:getNumValues("tracestate") > 1', "", metadata=(*TRACE, *STATE, *STATE)),
    "a trace of noughts": Case('not find(trace, "[^0]") or ', "", metadata=(("traceparent", NOUGHTS),)),
    "a trace in capitals": Case('find(parent, "%u") or ', "", metadata=(("traceparent", CAPITALS),)),
    "a trace's long state": Case("#state > LONGEST_STATE or ", "", metadata=(*TRACE, ("tracestate", "a=" + "x" * 600))),
    "a trace's state that is none": Case(" or not find(state, STATE)", "", metadata=(*TRACE, ("tracestate", "a b c"))),
    "a trace's state alone": Case(
        "if state ~= nil then\n      return nil",
        "if state ~= nil then\n      return NONE",
        metadata=STATE,
    ),
    "another token": Case(
        "local entry = known[authorization]\n  if entry == nil then\n    entry = earlier",
        "local entry = known[authorization] or select(2, next(known))\n  if entry == nil then\n    entry = earlier",
        metadata=(("authorization", "Bearer x"),),
        status=Code.UNAUTHENTICATED,
    ),
    "another model": Case(
        "local lesson = entry[key_of(model, version)]\n",
        "local lesson = entry[key_of(model, version)] or entry.digits\n",
        changed(model_name="secret"),
        status=Code.PERMISSION_DENIED,
    ),
    "another version": Case(
        "return lesson ~= nil and lesson.version == version and lesson or nil\n",
        "return lesson or entry[model]\n",
        changed(model_version="9"),
        status=Code.NOT_FOUND,
    ),
}


@contextlib.asynccontextmanager
async def altered(
    folder: Path, monkeypatch: pytest.MonkeyPatch, check: str, without: str, **options: Any
) -> AsyncIterator[World]:
    """A gateway whose lane has something else in place of a part of its script."""
    script = parts.script

    def other(rules: Any) -> str:
        source = script(rules)
        assert source.count(check) == 1, f"{check!r} is there {source.count(check)} times"
        return source.replace(check, without)

    monkeypatch.setattr(parts, "script", other)
    async with worlds.world(folder, express=True, **options) as made:
        yield made


async def test_what_is_not_plain_is_pythons(express: World) -> None:
    before = await until_carried(express)
    answers = {name: await case.called(express) for name, case in CASES.items()}
    assert answers == {name: case.status for name, case in CASES.items()}
    assert await carried(express) == before
    assert "[lua]" not in (express.folder / "envoy.log").read_text()  # what it lets go, it lets go in good order


@pytest.mark.parametrize("name", [name for name, case in CASES.items() if case.check])
async def test_each_check_is_what_makes_it_so(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    case = CASES[name]
    async with altered(tmp_path, monkeypatch, case.check, case.without) as world:
        await until_carried(world)
        await by_the_lane(world, lambda: case.called(world))


@pytest.mark.parametrize("check", ["lesson.version == version and ", ""])
async def test_a_model_whose_name_looks_like_anothers_version(
    check: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Lessons are found by both, joined: with the check, and without it."""
    async with altered(tmp_path, monkeypatch, check, "") if check else worlds.world(tmp_path, express=True) as world:
        await by_the_lane(world, lambda: infer(world, changed(model_version="2")))
        status = await Case("", "", changed(model_name="digits\x002")).called(world)
        assert status is (Code.OK if check else Code.PERMISSION_DENIED)


def allows_little(config: dict[str, Any]) -> None:
    config["models"][0]["max_request"] = "340B"


@pytest.mark.parametrize("check", ["", "size - 5 > lesson.most or "])
async def test_a_message_that_is_too_large(check: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    large = pb.ModelInferRequest.FromString(MESSAGE)
    large.raw_input_contents.append(bytes(100))
    async with altered(tmp_path, monkeypatch, check or NOTHING, "", change=allows_little) as world:
        before = await until_carried(world)
        if check:
            await by_the_lane(world, lambda: infer(world, large.SerializeToString()))
        else:
            assert (await refused(infer(world, large.SerializeToString()))).reason == "TOO_LARGE"
            assert await carried(world) == before


async def test_messages_that_are_two_or_none(express: World) -> None:
    before = await until_carried(express)
    call = express.channel.stream_unary(INFER)(metadata=[express.bearer()])
    await call.done_writing()
    assert (await refused(call)).reason == "REQUEST_MALFORMED"
    call = express.channel.stream_unary(INFER)(metadata=[express.bearer()])
    await call.write(MESSAGE)
    await call.write(MESSAGE)
    await call.done_writing()
    with contextlib.suppress(grpc.aio.AioRpcError):
        await call
    assert await carried(express) == before


@pytest.mark.parametrize("model", ["shared", "seq"])
async def test_a_model_that_takes_python_each_time(model: str, tmp_path: Path) -> None:
    """A version is written into the message, or calls belong together."""

    def with_sequences(config: dict[str, Any]) -> None:
        config["models"].append(config["models"][2] | {"name": "seq", "sequence": True})
        config["upstream"]["endpoints"]["seq"] = config["upstream"]["endpoints"]["small"]
        config["grants"][0]["models"].append("seq")

    async with worlds.world(tmp_path, with_sequences, express=True) as world:
        before = await until_carried(world)
        for _ in range(3):
            await infer(world, changed(model_name=model))
        assert await carried(world) == before


# ---- who may say what ----


async def test_callers_cannot_steer_the_lane(express: World) -> None:
    """Who says that it is decided, and where to, is not believed; nor does anyone read what Python tells the lane."""
    to = express.two.address
    steering: Metadata = [
        ("x-headrace-lane", "express"),
        ("x-headrace-cluster", to),
        ("x-headrace-learn", "1"),
        ("x-headrace-permit", f"a 9999999999999 5000 999999 0 0 - 100={to} host caller digits - 0"),
        ("x-headrace-generation", "a"),
        ("x-headrace-to", to),
    ]
    call = express.channel.unary_unary(INFER)(MESSAGE, metadata=steering, timeout=10)
    assert (await refused(call)).reason == "TOKEN_MISSING"
    call = express.channel.unary_unary(INFER)(MESSAGE, metadata=[express.bearer(), *steering], timeout=10)
    await call
    assert not express.two.calls
    for _ in range(3):
        call = express.channel.unary_unary(INFER)(MESSAGE, metadata=[express.bearer()], timeout=10)
        await call
        told = [*(await call.initial_metadata()), *(await call.trailing_metadata())]
        assert not [key for key, _ in told if key.startswith(("x-headrace", "x-request-id", "x-envoy"))]


async def test_if_what_callers_say_to_the_lane_were_left_they_could(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parts, "_OURS", ())
    async with worlds.world(tmp_path, express=True) as world:
        steering = (("x-headrace-lane", "express"), ("x-headrace-cluster", world.two.address))
        server_live = world.channel.unary_unary(worlds.SERVICE + "ServerLive")
        with contextlib.suppress(grpc.aio.AioRpcError):
            await server_live(b"", metadata=steering, timeout=10)
        assert world.two.calls


async def test_callers_cannot_have_their_calls_repeated(tmp_path: Path) -> None:
    """Envoy takes such words from addresses that it is told are its own, and is told of none."""

    def once(config: dict[str, Any]) -> None:
        config["models"][0]["retries"] = {"attempts": 0}

    again = (("x-envoy-max-retries", "9"), ("x-envoy-retry-grpc-on", "unavailable"))
    async with worlds.world(tmp_path, once, express=True) as world:
        await until_carried(world)
        world.one.behaviour[INFER] = failing(Code.UNAVAILABLE, "no")
        before = len(world.one.calls)
        for more in ((), (("a_b", "1"),)):  # by each lane
            assert (await refused(infer(world, more=(*again, *more)))).reason == "MODEL_NOT_READY"
        assert len(world.one.calls) == before + 2


async def test_workers_teach_the_lane_nothing(express: World) -> None:
    async def lie(message: bytes, context: grpc.aio.ServicerContext) -> bytes:
        lesson = f"a 9999999999999 5000 999999 0 0 - 100={express.two.address} host caller digits - 0"
        await context.send_initial_metadata([("x-headrace-permit", lesson), ("x-headrace-generation", "a")])
        return await echo(message, context)

    express.one.behaviour[INFER] = lie
    for _ in range(6):
        await infer(express)
    assert not express.two.calls


# ---- failures ----

SAID = [Code.INVALID_ARGUMENT, Code.NOT_FOUND, Code.UNIMPLEMENTED, Code.ABORTED, Code.PERMISSION_DENIED]
HIDDEN = [Code.INTERNAL, Code.UNKNOWN, Code.DATA_LOSS, Code.CANCELLED, Code.RESOURCE_EXHAUSTED, Code.UNAVAILABLE]
WORDS = [
    "some words",
    "Exceeds maximum queue size",
    "request timeout expired",
    "RBAC: access denied",
    "Jwt is expired",
    "",
]


async def test_failures_are_told_as_python_tells_them(express: World) -> None:
    """Every status with words that change what it means: both lanes, one answer."""
    for code in (*SAID, *HIDDEN, Code.DEADLINE_EXCEEDED, Code.UNAUTHENTICATED):
        for words in WORDS:
            express.one.behaviour[INFER] = echo
            await until_carried(express)
            express.one.behaviour[INFER] = failing(code, words)
            lane = await by_the_lane(express, lambda: refused(infer(express)))
            before = await carried(express)
            python = await refused(infer(express, with_parameter()))
            assert await carried(express) == before
            for name in ("status", "reason", "domain", "retry_after"):
                assert getattr(lane, name) == getattr(python, name), (code, words, name)
            assert lane.text.partition("(request")[0] == python.text.partition("(request")[0], (code, words)


async def test_a_copy_that_says_that_it_does_not_serve_gets_no_calls(tmp_path: Path) -> None:
    def both(config: dict[str, Any]) -> None:
        (one,), (two,) = (config["upstream"]["endpoints"]["digits"][version] for version in "12")
        config["upstream"]["endpoints"]["digits"]["1"] = [one, two]

    async with worlds.world(tmp_path, both, express=True) as world:
        world.two.health = health_pb2.HealthCheckResponse.NOT_SERVING
        async with asyncio.timeout(20):
            while True:
                before = len(world.two.calls)
                for _ in range(10):
                    await infer(world)
                if len(world.two.calls) == before:
                    break
        await until_carried(world)
        world.two.health = health_pb2.HealthCheckResponse.SERVING
        async with asyncio.timeout(20):
            while len(world.two.calls) == before:
                await infer(world)


@pytest.mark.parametrize("more", [(), (("a_b", "1"),)], ids=["lane", "python"])
async def test_a_worker_may_take_longer_than_a_message(
    more: tuple[tuple[str, str], ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(front, "IDLE", "0.3s")

    async def slow(message: bytes, context: grpc.aio.ServicerContext) -> bytes:
        await asyncio.sleep(0.8)
        return await echo(message, context)

    async with worlds.world(tmp_path, express=True) as world:
        await until_carried(world)
        world.one.behaviour[INFER] = slow
        await infer(world, more=more)


async def test_a_request_id_of_a_workers_own_is_nobodys(express: World) -> None:
    async def fail(_message: bytes, context: grpc.aio.ServicerContext) -> bytes:
        await context.send_initial_metadata((("x-request-id", "a" * 32), ("x-request-id", "%1")))
        return await context.abort(Code.INTERNAL, "no")

    await until_carried(express)
    express.one.behaviour[INFER] = fail
    told = await by_the_lane(express, lambda: refused(infer(express)))
    assert (told.reason, told.domain) == ("INTERNAL", "headrace")
    (number,) = re.findall(r"\(request ([0-9a-f]{32})\)", told.text)
    assert number == dict(express.one.metadata[-1])["x-request-id"]


async def test_what_of_a_workers_metadata_callers_get(express: World) -> None:
    own = [("kept", "1"), ("kept-bin", b"\x00")]
    others = [
        (key, "1")
        for key in ("authorization", "x-caller", "x_caller", "x-grant", "x.model.name", "x-envoy-a", "x_headrace_a")
    ]
    both = (*own, *others, ("x-caller-bin", b"\x00"))

    async def answer(message: bytes, context: grpc.aio.ServicerContext) -> bytes:
        await context.send_initial_metadata(both)
        context.set_trailing_metadata(both)
        return await echo(message, context)

    express.one.behaviour[INFER] = answer

    async def called() -> list[list[tuple[str, str | bytes]]]:
        call = express.channel.unary_unary(INFER)(MESSAGE, metadata=[express.bearer()], timeout=10)
        await call
        found = (await call.initial_metadata(), await call.trailing_metadata())
        return [
            [(key, value) for key, value in part if not key.startswith(("grpc-", "accept", "date"))] for part in found
        ]

    assert await by_the_lane(express, called) == [own, own]


async def test_nobody_there(express: World) -> None:
    dead = pb.ModelInferRequest(model_name="dead").SerializeToString()
    assert (await refused(infer(express, dead))).reason == "MODEL_NOT_READY"


async def test_a_caller_that_leaves_takes_its_call_along(express: World) -> None:
    await until_carried(express)
    reached = asyncio.Event()
    express.one.behaviour[INFER] = worlds.hanging(reached)
    call = asyncio.create_task(infer(express))
    await asyncio.wait_for(reached.wait(), 5)
    call.cancel()
    await asyncio.wait_for(express.one.cancelled.wait(), 5)


# ---- changes ----


NOTHING = "-- ---- there ----"


@pytest.mark.parametrize("check", ["now >= entry[EXPIRES]", ""])
async def test_a_token_is_good_until_it_expires_and_no_longer(
    check: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with altered(tmp_path, monkeypatch, check or NOTHING, "false" if check else "") as world:
        bearer = world.bearer(exp=int(time.time()) + 2)  # and a second of leeway
        ends = int(time.time()) + 3

        async def call() -> None:
            await world.channel.unary_unary(INFER)(MESSAGE, metadata=[bearer], timeout=10)

        await by_the_lane(world, call)
        while time.time() < ends:
            await asyncio.sleep(0.05)
        if check:
            await by_the_lane(world, call_well(call))
        else:
            assert (await refused(call())).reason == "TOKEN_EXPIRED"


def call_well(call: Callable[[], Awaitable[object]]) -> Callable[[], Awaitable[object]]:
    """The call, whatever comes of it."""

    async def called() -> None:
        with contextlib.suppress(grpc.aio.AioRpcError):
            await call()

    return called


def often(config: dict[str, Any]) -> None:
    """Keys are asked for as often as can be."""
    config["issuers"][0]["refresh"] = "1s"


@pytest.mark.parametrize(
    ("check", "without"),
    [
        ("if told ~= generation then\n    forget()", "if told ~= generation then"),  # they are believed under another
        ("if age >= 0 and age < RULES.fresh then", "if confirmed_at > 0 then"),  # it is not asked for again
    ],
)
async def test_were_another_generation_not_another_a_removed_key_would_still_open(
    check: str, without: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with altered(tmp_path, monkeypatch, check, without, change=often) as world:
        await until_carried(world)
        await replaced(world)
        await by_the_lane(world, call_well(lambda: infer(world)))


async def test_a_key_that_is_removed_opens_nothing_a_second_later(tmp_path: Path) -> None:
    async with worlds.world(tmp_path, often, express=True) as world:
        await until_carried(world)
        (tmp_path / "jwks.json").write_bytes(Issuer(world.issuer.name).jwks())
        async with asyncio.timeout(10):
            while True:
                with contextlib.suppress(grpc.aio.AioRpcError):
                    await infer(world)
                    continue
                break
        before = await carried(world)
        for _ in range(10):
            assert (await refused(infer(world))).reason == "TOKEN_INVALID"
        assert await carried(world) == before


def envoys(folder: Path) -> list[psutil.Process]:
    """The Envoys in front of the gateway of this folder."""
    found = []
    for child in psutil.Process().children():
        with contextlib.suppress(psutil.Error):
            if Path(child.exe()).name == "envoy" and any(str(folder) in word for word in child.cmdline()):
                found.append(child)
    return found


async def replaced(world: World) -> None:
    """The issuer has another key, and Python knows."""
    (world.folder / "jwks.json").write_bytes(Issuer(world.issuer.name).jwks())
    async with asyncio.timeout(10):
        while True:
            with contextlib.suppress(grpc.aio.AioRpcError):
                await infer(world, with_parameter())
                continue
            break


@pytest.mark.parametrize("check", ["", "generation, confirmed_at = of, 0"])
async def test_what_was_decided_before_a_key_was_removed_teaches_nothing(
    check: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A worker that takes its time does not bring a lesson that outlives the key."""
    reached, over = asyncio.Event(), asyncio.Event()

    async def slow(message: bytes, context: grpc.aio.ServicerContext) -> bytes:
        reached.set()
        await over.wait()
        return await echo(message, context)

    if check:  # and Python, too, tells what it knew then, and the lane does not ask again
        monkeypatch.setattr(
            "gateway.lane.Lane.lesson",
            lambda lane, since, *of, **_: ((LESSON, " ".join(map(str, (since, *lane._told(*of[:3]), "-")))),),
        )
        monkeypatch.setattr(rules, "_FRESH", 60_000)
    without = "generation = of" if check else ""
    async with altered(tmp_path, monkeypatch, check or NOTHING, without, change=often) as world:
        await until_carried(world)
        bearer = world.bearer(exp=int(time.time()) + 600)
        world.one.behaviour[INFER] = slow
        call = asyncio.ensure_future(world.channel.unary_unary(INFER)(MESSAGE, metadata=[bearer], timeout=30))
        await reached.wait()
        world.one.behaviour[INFER] = echo
        await replaced(world)
        before = await carried(world)
        over.set()
        await call
        for _ in range(20):
            await call_well(lambda: world.channel.unary_unary(INFER)(MESSAGE, metadata=[bearer], timeout=30))()
        assert (await carried(world) > before) is bool(check)


@pytest.mark.parametrize("check", ["", " or not current(handle, now)"])
async def test_a_message_that_comes_after_a_key_was_removed_is_not_carried(
    check: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with altered(tmp_path, monkeypatch, check or NOTHING, "", change=often) as world:
        if not check:
            await until_carried(world)
        else:
            await infer(world)  # teaches, and nothing is ever asked for
        calls = [world.channel.stream_unary(INFER)(metadata=[world.bearer()], timeout=30) for _ in range(5)]
        await asyncio.gather(*(call.wait_for_connection() for call in calls))
        await asyncio.sleep(0.1)  # for their headers to be there
        await replaced(world)
        before = len(world.one.calls)
        for call in calls:
            with contextlib.suppress(asyncio.InvalidStateError, grpc.aio.AioRpcError):  # Python's are refused already
                await call.write(MESSAGE)
                await call.done_writing()
            with contextlib.suppress(grpc.aio.AioRpcError):
                await call
        assert (len(world.one.calls) > before) is bool(check)


async def test_a_gateway_that_does_not_tell_has_nothing_carried(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(asked._Asked, "_tell", lambda *_: time.sleep(0.7) or b"")
    async with worlds.world(tmp_path, express=True) as world:
        before = await carried(world)
        for _ in range(5):
            await infer(world)
        assert await carried(world) == before


async def test_slow_workers_calls_are_carried_like_others(express: World) -> None:
    """Whether lessons hold is asked of Python, and no worker is waited for."""

    async def slow(message: bytes, context: grpc.aio.ServicerContext) -> bytes:
        await asyncio.sleep(0.3)
        return await echo(message, context)

    await until_carried(express)
    express.one.behaviour[INFER] = slow
    before = await carried(express)
    await asyncio.gather(*(infer(express) for _ in range(8)))
    await asyncio.gather(*(infer(express) for _ in range(8)))
    assert await carried(express) - before == 16


async def test_strangers_are_told_no_generation(express: World) -> None:
    call = express.channel.unary_unary("/headrace.Lane/Generation")
    for metadata in ((), (("x-headrace-learn", "1"),)):
        assert (await refused(call(b"", metadata=metadata, timeout=10))).status is Code.UNIMPLEMENTED


async def test_a_start_that_fails_is_tried_again(express: World, monkeypatch: pytest.MonkeyPatch) -> None:
    await until_carried(express)
    start, failures = process.start, [OSError(28, "No space left on device")] * 2

    async def failing_start(*arguments: Any) -> process.Envoy:
        if failures:
            raise failures.pop()
        return await start(*arguments)

    monkeypatch.setattr(process, "start", failing_start)
    (envoy,) = envoys(express.folder)
    envoy.kill()
    async with asyncio.timeout(20):
        while failures or not envoys(express.folder):
            await asyncio.sleep(0.05)
    await until_answered(express)


async def until_answered(world: World) -> None:
    async with asyncio.timeout(20):
        while True:
            with contextlib.suppress(grpc.aio.AioRpcError):
                await infer(world)
                break
            await asyncio.sleep(0.05)


async def test_an_envoy_that_dies_is_replaced_at_the_same_address(express: World) -> None:
    await until_carried(express)
    (envoy,) = envoys(express.folder)
    envoy.kill()
    await until_answered(express)
    await until_carried(express)
    assert [one.pid for one in envoys(express.folder)] != [envoy.pid]


async def test_calls_that_run_when_it_stops_end_well(tmp_path: Path) -> None:
    reached, over = asyncio.Event(), asyncio.Event()

    async def slow(message: bytes, context: grpc.aio.ServicerContext) -> bytes:
        reached.set()
        await over.wait()
        return await echo(message, context)

    async with contextlib.AsyncExitStack() as stack:
        async with worlds.world(tmp_path, express=True, drains=True) as world:
            await until_carried(world)
            channel = await stack.enter_async_context(grpc.aio.insecure_channel(world.address, options=CLIENT))
            world.one.behaviour[INFER] = slow
            running = asyncio.create_task(infer(replace(world, channel=channel)))
            await reached.wait()
            asyncio.get_running_loop().call_later(0.7, over.set)
            began = time.monotonic()
        assert time.monotonic() - began > 0.6
        assert pb.ModelInferResponse.FromString(await running).id == "7"
        late = channel.unary_unary(INFER)(MESSAGE, metadata=[world.bearer()], timeout=10)
        assert (await refused(late)).status is Code.UNAVAILABLE
    assert not envoys(tmp_path)


# ---- through a mesh ----


async def test_a_mesh_draws_versions_for_it(tmp_path: Path) -> None:
    async with behind_a_mesh(tmp_path, express=True, traffic={"1": 70, "2": 30}) as world:
        for _ in range(400):
            await world.infer()
        found = len(world.requests("2"))
        low, high = interval(400, 0.3)
        assert low <= found <= high
        (headers, *_) = world.requests("2")
        assert headers["x-model-name"] == "digits"
        assert "authorization" not in headers


# ---- the door ----


@pytest.mark.parametrize("host", ["localhost", "[::1]", "[::]"])
async def test_where_it_listens(host: str, tmp_path: Path) -> None:
    if host.startswith("["):
        try:
            socket.create_server((host.strip("[]"), 0), family=socket.AF_INET6).close()
        except OSError:
            pytest.skip("no IPv6 here")

    def there(config: dict[str, Any]) -> None:
        config["listen"]["address"] = f"{host}:0"

    async with (
        worlds.world(tmp_path, there, express=True) as world,
        grpc.aio.insecure_channel(world.address.replace("[::]", "127.0.0.1"), options=CLIENT) as channel,
    ):
        await until_carried(replace(world, channel=channel))


async def test_a_port_that_is_taken_is_told(tmp_path: Path) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        taken = "{}:{}".format(*other.getsockname())
        with pytest.raises(StartError, match=r"cannot listen on .*: Address already in use"):
            async with worlds.world(tmp_path, lambda config: config["listen"].update(address=taken), express=True):
                pytest.fail("it is taken")
    assert not envoys(tmp_path)


@pytest.mark.parametrize(("how", "code"), [(signal.SIGTERM, 0), (signal.SIGKILL, -9)])
async def test_the_command_leaves_nothing_however_it_ends(how: signal.Signals, code: int, tmp_path: Path) -> None:
    issuer = Issuer()
    async with worlds.running(worlds.Worker()) as worker:
        listen = {"address": "127.0.0.1:0", "admin": None, "notice": "1ms", "express": True}
        config = worlds.in_front_of(worker.address, tmp_path, issuer, "digits", listen=listen)
        command = [sys.executable, "-m", "headrace", "gateway", "--config", str(config)]
        environ = {**os.environ, "TMPDIR": str(tmp_path)}
        process = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE, env=environ)
        assert process.stdout is not None
        ready = (await asyncio.wait_for(process.stdout.readline(), 30)).decode().split()
        assert ready[:-1] == ["headrace", "gateway", "ready", "on"]
        (envoy,) = psutil.Process(process.pid).children()
        async with grpc.aio.insecure_channel(ready[-1], options=CLIENT) as channel:
            metadata = [("authorization", f"Bearer {issuer.token()}")]
            await channel.unary_unary(INFER)(MESSAGE, metadata=metadata, timeout=10)
        process.send_signal(how)
        assert await asyncio.wait_for(process.wait(), 30) == code
    async with asyncio.timeout(10):
        while envoy.is_running():
            await asyncio.sleep(0.01)
    left = await asyncio.to_thread(lambda: list(tmp_path.glob("headrace-gateway-*")))
    assert how is signal.SIGKILL or not left


# ---- the one on call ----


async def readyz(world: World) -> int:
    async with aiohttp.ClientSession() as session, session.get(f"http://{world.admin}/readyz") as page:
        return page.status


async def test_before_the_door_is_there_the_gateway_is_not_ready(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    admin, up, seen = worlds.unused_address(), door._up, []

    async def looked_at(*arguments: Any) -> str:
        async with aiohttp.ClientSession() as session, session.get(f"http://{admin}/readyz") as page:
            seen.append(page.status)
        return await up(*arguments)

    monkeypatch.setattr(door, "_up", looked_at)
    async with worlds.world(tmp_path, lambda config: config["listen"].update(admin=admin), express=True) as world:
        assert seen == [503]
        assert await readyz(world) == 200


async def test_while_the_door_is_shut_the_gateway_is_not_ready(express: World, monkeypatch: pytest.MonkeyPatch) -> None:
    start, full = process.start, [True]

    async def failing_start(*arguments: Any) -> process.Envoy:
        if full:
            raise OSError(28, "No space left on device")
        return await start(*arguments)

    monkeypatch.setattr(process, "start", failing_start)
    assert await readyz(express) == 200
    (envoy,) = envoys(express.folder)
    envoy.kill()
    async with asyncio.timeout(10):
        while await readyz(express) != 503:
            await asyncio.sleep(0.02)
    full.clear()
    async with asyncio.timeout(10):
        while await readyz(express) != 200:
            await asyncio.sleep(0.02)
    await infer(express)


async def test_an_envoy_that_hangs_is_replaced(express: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(door, "_PULSE", 0.2)
    (envoy,) = envoys(express.folder)
    envoy.suspend()
    async with asyncio.timeout(20):
        while envoy.is_running():
            await asyncio.sleep(0.05)
    await until_answered(express)


async def test_what_an_envoy_says_is_said_in_our_log_and_takes_no_room(
    express: World, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(door, "_LONG", 1000)
    await until_carried(express)
    express.one.behaviour[INFER] = failing(Code.INTERNAL, "a secret of the worker's" * 10)
    for _ in range(20):
        with contextlib.suppress(grpc.aio.AioRpcError):
            await infer(express)
    async with asyncio.timeout(10):
        while (express.folder / "envoy.log").stat().st_size > 1000 or "a secret of the worker's" not in caplog.text:
            await asyncio.sleep(0.05)


async def test_what_is_larger_than_anything_may_be_gets_grpcs_status(tmp_path: Path) -> None:
    """Both lanes refuse it before it is all there; gRPC has no reason for it."""

    def little(config: dict[str, Any]) -> None:
        for model in config["models"]:
            model["max_request"] = "1kB"

    large = changed(id="").ljust(4) + bytes([0x3A, 0x80, 0x80, 0x80, 0x02]) + bytes(4 * 1024 * 1024)
    async with worlds.world(tmp_path, little, express=True) as world:
        await until_carried(world)
        for more in ((), (("a_b", "1"),)):
            call = world.channel.unary_unary(INFER)(large, metadata=[world.bearer(), *more], timeout=10)
            assert (await refused(call)).status is Code.RESOURCE_EXHAUSTED


# ---- what strangers, and others, can do ----


@pytest.mark.parametrize("check", ["", "if unspeakable(headers) then"])
async def test_a_key_that_is_too_long_ends_nobody_elses_calls(
    check: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """gRPC would repeat it, escaped, in a status that is longer than what a connection survives."""
    over = asyncio.Event()

    async def slow(message: bytes, context: grpc.aio.ServicerContext) -> bytes:
        await over.wait()
        return await echo(message, context)

    async with altered(tmp_path, monkeypatch, check or NOTHING, "if false then" if check else "") as world:
        world.one.behaviour[INFER] = slow
        method, metadata = world.channel.unary_unary(INFER), [world.bearer()]
        victims = [asyncio.ensure_future(method(with_parameter(), metadata=metadata, timeout=60)) for _ in range(8)]
        while len(world.one.calls) < len(victims):
            await asyncio.sleep(0.01)
        paths, keys = (INFER, worlds.SERVICE + "ServerLive"), ("%" * 20_000, "k" * 29_000)
        # Each thread of Envoy's has its own connection to Python: it takes several callers to meet that of the victims.
        attacks = [(path, key) for path in paths for key in keys] * 6
        await asyncio.gather(*(asyncio.to_thread(asked_raw, world.address, path, key) for path, key in attacks))
        over.set()
        outcomes = await asyncio.gather(*victims, return_exceptions=True)
        assert any(isinstance(one, BaseException) for one in outcomes) is bool(check)


def asked_raw(address: str, path: str, key: str) -> None:
    """A call with a key that no gRPC client would send, and its answer, or the connection's end."""
    with raw(address, path, [(key, "1")]) as connection, contextlib.suppress(OSError):
        connection.sendall(http2.frame(http2.DATA, http2.END_STREAM, 1, bytes(5)))
        connection.settimeout(0.5)
        while connection.recv(65536):
            pass


@contextlib.contextmanager
def raw(address: str, path: str, more: Sequence[tuple[str, str]] = ()) -> Iterator[socket.socket]:
    """A connection that takes no bytes of answers, with one call on it."""
    host, _, port = address.rpartition(":")
    fields = [(":method", "POST"), (":scheme", "http"), (":path", path), (":authority", "a"), ("te", "trailers")]
    block = http2.literal([*fields, ("content-type", "application/grpc"), *more])
    chunks = [block[at : at + 16_000] for at in range(0, len(block), 16_000)]
    no_window = (4).to_bytes(2, "big") + bytes(4)
    with socket.create_connection((host, int(port)), timeout=2) as connection:
        connection.sendall(http2.PREFACE + http2.frame(http2.SETTINGS, 0, 0, no_window))
        for at, chunk in enumerate(chunks):
            last = http2.END_HEADERS if at == len(chunks) - 1 else 0
            connection.sendall(http2.frame(9 if at else http2.HEADERS, last, 1, chunk))
        yield connection


async def test_a_clock_that_steps_back_does_not_make_lessons_last(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    check = "  local now = handle:timestamp()\n"
    stepped = "  STEP = (STEP or 0) + 1\n  local now = handle:timestamp() - (STEP > 40 and 600000 or 0)\n"
    async with altered(tmp_path, monkeypatch, check, stepped, change=often) as world:
        await until_carried(world)
        for _ in range(60):
            await infer(world)
        await replaced(world)
        began = time.monotonic()
        while time.monotonic() - began < 1.5:
            await call_well(lambda: infer(world))()
        before = len(world.one.calls)
        for _ in range(20):
            assert (await refused(infer(world))).reason == "TOKEN_INVALID"
        assert len(world.one.calls) == before


@pytest.mark.parametrize(("on", "calls"), [([], 1), (["cancelled"], 1), (["reset"], 3)])
async def test_what_is_not_to_be_tried_again_is_not(on: list[str], calls: int, tmp_path: Path) -> None:
    def tries(config: dict[str, Any]) -> None:
        config["models"][0]["retries"] = {"attempts": 2, "on": on, "budget": None}

    async with worlds.world(tmp_path, tries, express=True) as world:
        await until_carried(world)
        world.one.behaviour[INFER] = failing(Code.UNAVAILABLE, "no")
        before = len(world.one.calls)
        await by_the_lane(world, lambda: refused(infer(world)))
        lane = len(world.one.calls) - before
        before = len(world.one.calls)
        await refused(infer(world, with_parameter()))
        assert (lane, len(world.one.calls) - before) == (calls, calls)


async def test_answers_that_are_not_taken_are_not_kept_without_end(express: World) -> None:
    """Reflection answers anyone, and says more than it is asked."""
    (envoy,) = envoys(express.folder)
    question = pb_reflection.ServerReflectionRequest(file_containing_symbol="inference.GRPCInferenceService")
    asked_for = question.SerializeToString()
    messages = (b"\0" + len(asked_for).to_bytes(4, "big") + asked_for) * 200
    before = own(envoy)

    def flood() -> None:
        path = "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo"
        with raw(express.address, path) as connection, contextlib.suppress(OSError):
            for _ in range(20):
                connection.sendall(http2.frame(http2.DATA, 0, 1, messages))
            time.sleep(1)

    await asyncio.to_thread(flood)
    assert own(envoy) - before < 16 * 1024**2


def own(process: psutil.Process) -> int:
    """Resident bytes but for those of files, which are read when the machine sees fit."""
    memory = process.memory_info()
    return int(memory.rss - memory.shared)


async def test_streams_whose_answers_nobody_takes_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parts, "_TAKEN", "1s")
    async with worlds.world(tmp_path, express=True) as world:

        def unread() -> bool:
            with raw(world.address, worlds.SERVICE + "ServerLive") as connection:
                connection.sendall(http2.frame(http2.DATA, http2.END_STREAM, 1, bytes(5)))
                connection.settimeout(10)
                came = b""
                while http2.frame(http2.RST_STREAM, 0, 1, bytes(4))[3:9] not in came and (
                    more := connection.recv(65536)
                ):
                    came += more
                return came

        assert await asyncio.to_thread(unread)
