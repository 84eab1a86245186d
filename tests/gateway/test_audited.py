"""What the audit says of calls of a gateway that stands alone; tests/headrace/test_express_audit.py has both lanes."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import grpc
import grpc.aio
import pytest
import pytest_asyncio
from grpc_health.v1 import health_pb2

from gateway import audit as module
from gateway.audited import decision, with_who
from gateway.ended import Ended
from gateway.errors import StartError
from gateway.rpcs import RPCS
from headrace.audit.files import in_order
from headrace.audit.verified import verify
from protos import grpc_service_pb2 as pb
from protos.errors import Reason
from tests.gateway import world as worlds
from tests.gateway.test_service import refused
from tests.gateway.test_traces import CALLER
from tests.gateway.world import INFER, SERVICE, STREAM, World, failing, hanging

MESSAGE = pb.ModelInferRequest(model_name="digits", model_version="canary", id="7").SerializeToString()
Line = dict[str, Any]
Code = grpc.StatusCode


def audited(**settings: Any) -> Any:
    return lambda config: config.update(audit={"file": "audit.jsonl", **settings})


@pytest.fixture(autouse=True)
def _soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_EVERY", 0.02)
    monkeypatch.setattr(module, "_AGAIN", 0.02)


@pytest_asyncio.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    async with worlds.world(tmp_path, audited()) as made:
        yield made


def read(world: World) -> list[Line]:
    text = (world.folder / "audit.jsonl").read_text()
    return [told for line in text.splitlines() if "rpc.method" in (told := json.loads(line))]


async def lines(world: World, count: int) -> list[Line]:
    """All of calls, once there are so many; there are no more than that."""
    async with asyncio.timeout(10):
        while len(read(world)) < count:
            await asyncio.sleep(0.01)
    found = read(world)
    assert len(found) == count
    return found


async def quietly(call: Any) -> None:
    with contextlib.suppress(grpc.aio.AioRpcError, asyncio.CancelledError):
        await call


async def test_a_line_says_who_asked_for_what_and_what_was_decided(world: World) -> None:
    metadata = [world.bearer(sub="al@ice"), ("traceparent", CALLER)]
    await world.channel.unary_unary(INFER)(MESSAGE, metadata=metadata, timeout=10)
    (line,) = await lines(world, 1)
    assert line.pop("headrace.request.id") == dict(world.two.metadata[-1])["x-request-id"]
    assert set(line.pop("time")) <= set("0123456789-:.TZ")
    assert len(line.pop("chain")) == 64
    assert line == {
        "headrace.caller": "al%40ice@https://id.example/",
        "headrace.decision": "allowed",
        "headrace.grant": "scope=all",
        "headrace.issuer": "https://id.example/",
        "headrace.lane": "python",
        "headrace.model.name": "digits",
        "headrace.model.version.asked": "canary",
        "headrace.model.version.served": "2",
        "headrace.subject": "al@ice",
        "network.peer.address": "127.0.0.1",
        "rpc.method": "inference.GRPCInferenceService/ModelInfer",
        "rpc.response.status_code": "OK",
        "seq": 3,
        "trace_id": "a1" * 16,
    }


async def test_what_was_decided(world: World) -> None:
    said, channel, reached = [], world.channel, asyncio.Event()
    bearer = [world.bearer()]

    async def ends(call: Any, *words: str) -> None:
        await quietly(call)
        said.append(words)

    await ends(channel.unary_unary(SERVICE + "ServerMetadata")(b"", metadata=bearer), "allowed", "OK")
    await ends(channel.unary_unary(INFER)(MESSAGE), "refused", "TOKEN_MISSING")
    await ends(
        channel.unary_unary(INFER)(MESSAGE, metadata=[("authorization", "Bearer x")]), "refused", "TOKEN_INVALID"
    )
    await ends(world.infer("secret"), "refused", "NOT_GRANTED")
    await ends(world.infer("ghost"), "refused", "MODEL_UNKNOWN")
    await ends(world.infer(version="9"), "refused", "VERSION_UNKNOWN")
    await ends(world.infer("dead"), "allowed", "MODEL_NOT_READY")
    await ends(world.infer("slow"), "allowed", "OK")
    load = pb.RepositoryModelLoadRequest(model_name="digits").SerializeToString()
    await ends(world.call("RepositoryModelLoad", load), "refused", "NOT_GRANTED")
    world.one.behaviour[INFER] = failing(grpc.StatusCode.RESOURCE_EXHAUSTED, "full")
    await ends(world.infer(version="1"), "allowed", "OVERLOADED")  # the worker's refusal, not ours
    world.one.behaviour[INFER] = hanging(reached)
    await ends(world.infer(version="1", timeout=0.2), "allowed", "DEADLINE_EXCEEDED")
    await channel.unary_unary(SERVICE + "ServerLive")(b"")
    await channel.unary_unary("/grpc.health.v1.Health/Check")(health_pb2.HealthCheckRequest().SerializeToString())
    found = await lines(world, len(said))
    assert [
        (line["headrace.decision"], line.get("headrace.reason") or line["rpc.response.status_code"]) for line in found
    ] == said
    assert not [line for line in found if "Bearer" in json.dumps(line)]


@pytest.mark.parametrize(
    ("told", "decided"),
    [
        ({"status": Code.OK}, "allowed"),
        ({"status": Code.CANCELLED}, "undecided"),
        ({"status": Code.CANCELLED, "grant": "g"}, "allowed"),
        ({"status": Code.DEADLINE_EXCEEDED, "reason": Reason.DEADLINE}, "undecided"),
        ({"status": Code.DEADLINE_EXCEEDED, "reason": Reason.DEADLINE, "grant": "g"}, "allowed"),
        ({"status": Code.INTERNAL, "reason": Reason.INTERNAL}, "undecided"),
        ({"status": Code.RESOURCE_EXHAUSTED, "reason": Reason.OVERLOADED, "grant": "g"}, "refused"),
        ({"status": Code.RESOURCE_EXHAUSTED, "reason": Reason.OVERLOADED, "grant": "g", "upstream": 0.1}, "allowed"),
        ({"status": Code.UNAUTHENTICATED, "reason": Reason.TOKEN_EXPIRED, "grant": "g", "upstream": 9.0}, "refused"),
    ],
)
def test_what_counts_as_decided(told: dict[str, Any], decided: str) -> None:
    ended = Ended(
        rpc=RPCS[INFER],
        **{"reason": "", "grant": "", "upstream": 0.0, **told},
        **dict.fromkeys(("model", "version_asked", "version_served", "request_id", "trace_id", "peer"), ""),
        **dict.fromkeys(("began", "duration", "received", "sent", "messages_received", "messages_sent"), 0),
        caller="",
        kept=False,
    )
    assert decision(ended) == decided


async def test_allowed_inference_is_sampled_and_nothing_else(tmp_path: Path) -> None:
    async with worlds.world(tmp_path, audited(sample=0.0)) as world:
        await world.infer()
        await quietly(world.infer("secret"))
        await world.call("ModelReady", pb.ModelReadyRequest(name="digits").SerializeToString())
        await quietly(
            world.call(
                "RepositoryModelLoad",
                pb.RepositoryModelLoadRequest(model_name="digits").SerializeToString(),
                scope="manage",
            )
        )
        found = await lines(world, 3)
    assert [(line["rpc.method"].rpartition("/")[2], line["headrace.decision"]) for line in found] == [
        ("ModelInfer", "refused"),
        ("ModelReady", "allowed"),
        ("RepositoryModelLoad", "allowed"),
    ]
    (tmp_path / "half").mkdir()
    async with worlds.world(tmp_path / "half", audited(sample=0.5)) as world:
        for _ in range(60):
            await world.infer()
    assert 5 < len(read(world)) < 55


async def test_a_stream_tells_of_each_model_and_of_each_refusal(world: World) -> None:
    stream = world.channel.stream_stream(STREAM)(metadata=[world.bearer()], timeout=10)
    for model in ("digits", "shared", "digits", "secret", "digits"):
        await stream.write(pb.ModelInferRequest(model_name=model).SerializeToString())
        await stream.read()
    assert {line["headrace.model.name"] for line in await lines(world, 3)} == {"digits", "shared", "secret"}
    await stream.done_writing()
    assert await stream.code() is grpc.StatusCode.OK
    told = [
        (line["headrace.model.name"], line["headrace.decision"], line.get("rpc.response.status_code"))
        for line in await lines(world, 4)
    ]
    assert told == [
        ("digits", "allowed", None),
        ("shared", "allowed", None),
        ("secret", "refused", "PERMISSION_DENIED"),
        ("digits", "allowed", "OK"),
    ]


async def test_a_message_that_is_refused_before_or_after_its_grant_is_told_too(tmp_path: Path) -> None:
    def one_at_a_time(config: dict[str, Any]) -> None:
        audited()(config)
        for grant in config["grants"]:
            grant["limits"] = {"concurrency": 1}

    async with worlds.world(tmp_path, one_at_a_time) as world:
        held, stream = (world.channel.stream_stream(STREAM)(metadata=[world.bearer()], timeout=10) for _ in range(2))
        await held.write(MESSAGE)
        await held.read()
        for message in (MESSAGE, b"\xff\xff\xff"):
            await stream.write(message)
            await stream.read()
        told = await lines(world, 3)
        held.cancel()
        stream.cancel()
    assert [
        (line["headrace.decision"], line.get("headrace.reason"), line.get("headrace.model.name")) for line in told
    ] == [
        ("allowed", None, "digits"),
        ("refused", "RATE_LIMITED", "digits"),
        ("refused", "REQUEST_MALFORMED", None),
    ]


async def test_a_message_that_finds_no_room_is_told_too(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.stream._BRANCHES", 1)
    stream = world.channel.stream_stream(STREAM)(metadata=[world.bearer()], timeout=10)
    for model in ("digits", "shared"):
        await stream.write(pb.ModelInferRequest(model_name=model).SerializeToString())
        await stream.read()
    told = await lines(world, 2)
    stream.cancel()
    assert [(line["headrace.model.name"], line["headrace.decision"], line.get("headrace.reason")) for line in told] == [
        ("digits", "allowed", None),
        ("shared", "refused", "OVERLOADED"),
    ]


def test_a_name_that_was_cut_within_a_character_ends_nothing() -> None:
    line = json.dumps({"headrace.caller": "al@https://id.ex%C3"}, separators=(",", ":")).encode()
    assert json.loads(with_who(line))["headrace.subject"] == "al"


async def fail(world: World) -> None:
    """Have the disk be full."""
    path = world.folder / "audit.jsonl"
    path.rename(world.folder / "audit.jsonl.000000000001")
    path.symlink_to("/dev/full")


async def test_calls_are_refused_while_they_cannot_be_audited(tmp_path: Path) -> None:
    async with worlds.world(tmp_path, audited(on_failure="refuse")) as world, aiohttp.ClientSession() as session:
        stream = world.channel.stream_stream(STREAM)(metadata=[world.bearer()], timeout=10)
        await stream.write(MESSAGE)
        await stream.read()

        async def status() -> int:
            async with session.get(f"http://{world.admin}/readyz") as answer:
                return answer.status

        assert await status() == 200
        await fail(world)
        await quietly(world.infer())  # of which the line cannot be written
        async with asyncio.timeout(10):
            while await status() != 503:
                await asyncio.sleep(0.01)
        before = len(world.one.calls) + len(world.two.calls)
        for call in (world.infer(), world.call("ModelReady", pb.ModelReadyRequest(name="digits").SerializeToString())):
            told = await refused(call)
            assert (told.status, told.reason) == (grpc.StatusCode.UNAVAILABLE, "AUDIT_UNAVAILABLE")
        await stream.write(MESSAGE)
        assert b"AUDIT_UNAVAILABLE" in await stream.read()
        assert len(world.one.calls) + len(world.two.calls) == before
        live = await world.channel.unary_unary(SERVICE + "ServerLive")(b"")
        assert pb.ServerLiveResponse.FromString(live).live
        (tmp_path / "audit.jsonl").unlink()
        async with asyncio.timeout(10):
            while await status() != 200:
                await asyncio.sleep(0.01)
        await world.infer()
        stream.cancel()
    found = verify(in_order([tmp_path / "audit.jsonl"]), [], lambda _size: None)
    assert (found.wrong, found.lost) == (None, 0)
    assert "AUDIT_UNAVAILABLE" in {line.get("headrace.reason") for line in read(world)}


async def test_calls_go_on_where_it_is_to_continue(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async with worlds.world(tmp_path, audited()) as world:
        await fail(world)
        async with asyncio.timeout(10):
            while "the audit cannot be written: No space left on device; calls go on" not in caplog.text:
                await world.infer()
        await world.infer()
        async with aiohttp.ClientSession() as session, session.get(f"http://{world.admin}/readyz") as answer:
            assert answer.status == 200


async def test_one_that_cannot_be_written_is_told_at_the_start(tmp_path: Path) -> None:
    (tmp_path / "audit.jsonl").write_text("my diary\n")
    with pytest.raises(StartError, match=r"audit\.jsonl cannot be written: it does not end in a line of an audit"):
        async with worlds.world(tmp_path, audited()):
            pass


async def test_what_the_mesh_carries_is_not_in_it_which_is_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    def external(config: dict[str, Any]) -> None:
        audited()(config)
        config["listen"].update(express="external", asked="127.0.0.1:0")

    async with worlds.world(tmp_path, external):
        assert "calls that the mesh's own Envoy carries are not in the audit" in caplog.text
