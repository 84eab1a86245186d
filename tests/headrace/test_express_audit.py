"""The audit of a gateway with an Envoy in front: what is carried, and what never gets to Python, is in it, too."""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import pytest
import pytest_asyncio

from gateway import audit as module
from gateway.settings import load
from headrace.audit.files import in_order
from headrace.audit.verified import Verified, verify
from headrace.express import front_of
from mesh.express.front import bootstrap
from mesh.local import process
from tests.envoy import needs_envoy
from tests.gateway import world as worlds
from tests.gateway.test_service import refused
from tests.gateway.test_traces import CALLER
from tests.gateway.tokens import Issuer
from tests.gateway.world import INFER, World, failing
from tests.headrace.test_access_log import FORGED, OF_A_CALL, TO_PYTHON, quietly
from tests.headrace.test_express import MESSAGE, asked_raw, by_the_lane, changed, infer, until_carried

pytestmark = needs_envoy

Line = dict[str, Any]
Code = grpc.StatusCode
CHAIN = {"seq", "chain"}


def audited(**settings: Any) -> Any:
    return lambda config: config.update(audit={"file": "audit.jsonl", **settings})


@pytest.fixture(autouse=True)
def _soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process, "_FLUSH", (process._FLUSH[0], "20"))
    monkeypatch.setattr(module, "_EVERY", 0.02)
    monkeypatch.setattr(module, "_AGAIN", 0.02)


@pytest_asyncio.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    async with worlds.world(tmp_path, audited(), express=True) as made:
        yield made


def lines(world: World) -> list[Line]:
    """Those that are of calls, and whole."""
    path = world.folder / "audit.jsonl"
    text = path.read_text() if path.exists() else ""
    found = [json.loads(line) for line in text[: text.rfind("\n") + 1].splitlines()]
    return [line for line in found if "rpc.method" in line]


async def line_of(world: World, request_id: object) -> Line:
    async with asyncio.timeout(10):
        while not (found := [line for line in lines(world) if line.get("headrace.request.id") == request_id]):
            await asyncio.sleep(0.02)
    (line,) = found
    return line


async def all_lines(world: World) -> list[Line]:
    """Those of all calls so far, and then of one by the lane, and one by Python."""
    for call in (lambda: by_the_lane(world, lambda: infer(world)), lambda: infer(world, more=[TO_PYTHON])):
        await call()
        await line_of(world, told_id(world))
    return lines(world)


def told_id(world: World) -> object:
    return dict(world.one.metadata[-1])["x-request-id"]


def verified(world: World) -> Verified:
    return verify(in_order([world.folder / "audit.jsonl"]), [], lambda _size: None)


async def by_each(world: World, more: list[tuple[str, str]]) -> tuple[Line, Line]:
    got = []
    for call in (
        lambda: quietly(infer(world, more=[*more, TO_PYTHON])),
        lambda: by_the_lane(world, lambda: quietly(infer(world, more=more))),
    ):
        await call()
        got.append(await line_of(world, told_id(world)))
    python, lane = got
    assert (python["headrace.lane"], lane["headrace.lane"]) == ("python", "express")
    return python, lane


async def test_both_lanes_say_the_same(world: World) -> None:
    await until_carried(world)
    for status in (Code.OK, Code.UNAVAILABLE, Code.RESOURCE_EXHAUSTED, Code.NOT_FOUND):
        world.one.behaviour[INFER] = failing(status, "no") if status is not Code.OK else worlds.echo
        python, lane = (
            {name: value for name, value in line.items() if name not in OF_A_CALL | CHAIN}
            for line in await by_each(world, [("traceparent", CALLER)])
        )
        assert python == lane
        assert python["headrace.decision"] == "allowed"
        assert python["headrace.subject"] == "tester"
        assert python["trace_id"] == "a1" * 16
    assert verified(world).wrong is None


async def test_what_never_gets_to_python_is_refused(world: World) -> None:
    await until_carried(world)
    await quietly(infer(world, bytes(70 * 1024**2)))
    await asyncio.to_thread(asked_raw, world.address, INFER, "k" * 2000)
    silent = world.channel.stream_unary(INFER)(metadata=[world.bearer()])
    await silent.wait_for_connection()
    await by_the_lane(world, lambda: infer(world))
    silent.cancel()
    await quietly(world.channel.unary_unary(INFER)(MESSAGE, metadata=FORGED, timeout=10))
    found = await all_lines(world)
    nobodys = [line for line in found if "headrace.request.id" not in line]
    assert sorted((line["headrace.decision"], line["rpc.response.status_code"]) for line in nobodys) == [
        ("refused", "INVALID_ARGUMENT"),
        ("refused", "RESOURCE_EXHAUSTED"),
        ("undecided", "CANCELLED"),
    ]
    assert "root" not in json.dumps(found)
    (forged,) = [line for line in found if line.get("headrace.reason") == "TOKEN_MISSING"]
    assert forged["headrace.decision"] == "refused"
    assert verified(world).wrong is None


def test_what_python_does_not_live_to_answer_is_undecided(tmp_path: Path) -> None:
    """The filters are those of the access log, whose test is of an Envoy."""
    path = worlds.in_front_of("127.0.0.1:1", tmp_path, Issuer(), "digits", audit={"file": "audit.jsonl"})
    made = front_of(load(path, {}), tmp_path)
    (loggers,) = (kind.loggers() for kind in made.lines)
    fixed = [logger["typed_config"]["log_format"]["json_format"].get("headrace.decision") for logger in loggers]
    assert fixed[1:] == ["undecided", "allowed", "allowed"]


async def test_of_what_is_carried_a_share_is_told_and_of_the_rest_all(tmp_path: Path) -> None:
    async with worlds.world(tmp_path, audited(sample=0.25), express=True) as world:
        await until_carried(world)
        before = len(world.one.calls)
        await asyncio.gather(*(infer(world) for _ in range(400)))
        ids = {dict(told)["x-request-id"] for told in world.one.metadata[before:]}
        for _ in range(10):
            await quietly(infer(world, changed(model_name="secret")))
        async with asyncio.timeout(10):
            while len([line for line in lines(world) if line["headrace.decision"] == "refused"]) < 10:
                await asyncio.sleep(0.02)
    carried = {line["headrace.request.id"] for line in lines(world) if line["headrace.lane"] == "express"}
    assert 50 < len(carried & ids) < 150
    assert verified(world).wrong is None


def test_of_none_nothing_is_written(tmp_path: Path) -> None:
    audit, telemetry = {"file": "a.jsonl", "sample": 0}, {"metrics": False}
    path = worlds.in_front_of("127.0.0.1:1", tmp_path, Issuer(), "digits", audit=audit, telemetry=telemetry)
    text = json.dumps(bootstrap(front_of(load(path, {}), tmp_path)))
    assert "== 'carried'" not in text
    assert "!= 'carried'" in text


# ---- a full disk ----


def fill(world: World) -> None:
    path = world.folder / "audit.jsonl"
    path.rename(world.folder / "audit.jsonl.000000000001")
    path.symlink_to("/dev/full")


async def test_the_lane_carries_nothing_that_cannot_be_audited(tmp_path: Path) -> None:
    async with worlds.world(tmp_path, audited(on_failure="refuse"), express=True) as world:
        await until_carried(world)
        fill(world)
        await quietly(infer(world))
        async with asyncio.timeout(10):  # the line comes by way of a pipe
            while True:
                try:
                    await infer(world)
                except grpc.aio.AioRpcError:
                    break
        failed_at = time.monotonic()
        while time.monotonic() - failed_at < 1:  # lessons are believed no longer than that
            await quietly(infer(world))
        before = len(world.one.calls)
        for _ in range(20):
            told = await refused(infer(world))
            assert (told.status, told.reason) == (Code.UNAVAILABLE, "AUDIT_UNAVAILABLE")
        assert len(world.one.calls) == before
        (tmp_path / "audit.jsonl").unlink()
        async with asyncio.timeout(10):
            while True:
                with contextlib.suppress(grpc.aio.AioRpcError):
                    await infer(world)
                    break
        await until_carried(world)
    found = verified(world)
    assert (found.wrong, found.lost) == (None, 0)
    carried = {line["headrace.request.id"] for one in in_order([tmp_path / "audit.jsonl"]) for line in calls(one.path)}
    assert {dict(told)["x-request-id"] for told in world.one.metadata} <= carried


def calls(path: Path) -> list[Line]:
    return [line for text in path.read_text().splitlines() if "headrace.request.id" in (line := json.loads(text))]


async def test_several_processes_make_one_chain(tmp_path: Path) -> None:
    def several(config: dict[str, Any]) -> None:
        audited(rotate="16KiB")(config)
        config["listen"]["processes"] = 2

    async with worlds.world(tmp_path, several, express=True) as world:
        await until_carried(world)
        await asyncio.gather(*(infer(world, more=[TO_PYTHON] if number % 2 else []) for number in range(100)))
        ids = {dict(told)["x-request-id"] for told in world.one.metadata}

        def told() -> set[object]:
            return {
                line["headrace.request.id"] for one in in_order([tmp_path / "audit.jsonl"]) for line in calls(one.path)
            }

        async with asyncio.timeout(10):
            while not ids <= told():
                await asyncio.sleep(0.05)
    found = verified(world)
    assert (found.wrong, found.lost) == (None, 0)
    text = "".join(one.path.read_text() for one in in_order([tmp_path / "audit.jsonl"]))
    assert len({json.loads(line)["pid"] for line in text.splitlines() if '"pid"' in line}) == 2
