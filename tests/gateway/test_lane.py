"""What the express lane is told, and when it is told that all has changed."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import pytest

from gateway.authorize import Permit
from gateway.call import read_call
from gateway.caller import Caller
from gateway.choose import choose
from gateway.lane import ASK_PATH, LEARN_KEY, PATH, Generation, Lane, common
from gateway.rpcs import RPCS, Action
from gateway.server import serving
from gateway.settings import load
from mesh.catalog import Model
from protos import grpc_service_pb2 as pb
from tests.gateway import world as worlds
from tests.gateway.world import World

CALLER = Caller("https://id.example/", "al@ice", {}, 1000.0)
OWN = {"1": {"version": "v1"}, "2": {"version": "v2"}}
BASE = {"name": "digits", "host": "digits.svc:8001", "versions": OWN, "traffic": {"1": 90, "2": 10}, "timeout": "5s"}


def cluster_of(model: Model, version: str) -> str:
    return f"{model.name}/{version}"


def told(version: str = "", path: str = PATH, since: str | None = None, **more: object) -> str:
    """What the lane is told of a call for a model; the draw falls on version 1."""
    model = Model.model_validate(BASE | more)
    lane = Lane(
        Generation(lambda: 1), {CALLER.issuer: 30.0}, lambda model, version: f"{model.name}/{version}", tries=True
    )
    body = pb.ModelInferRequest(model_name="digits", model_version=version).SerializeToString()
    call = read_call(RPCS[path], body)
    permit = Permit(CALLER, "digits", Action.INFER)
    since = lane.generation.word() if since is None else since
    answer = dict(lane.lesson(since, call, permit, choose(call, permit, {"digits": model}, 0.0)))
    return answer.get("x-headrace-permit", "")


def test_a_lesson_holds_all_that_carrying_takes() -> None:
    generation, *rest = told().split(" ")
    assert len(generation) == 16
    assert rest == [
        *("1030000", "5000", str(64 * 1024**2), "0", "2", "unavailable", "90=digits/1;10=digits/2"),
        *("digits.svc:8001", "al%40ice@https://id.example/", "digits", "-", "0"),
    ]


def test_a_version_that_is_named_is_pinned() -> None:
    assert told(version="2").split(" ")[-6:] == [
        *("100=digits/2", "digits.svc:8001", "al%40ice@https://id.example/", "digits", "2", "1"),
    ]


@pytest.mark.parametrize(
    "call",
    [
        {"version": "canary", "aliases": {"canary": "2"}},  # the message is rewritten
        {"versions": {"1": {}, "2": {}}},  # so it is here
        {"versions": {"1": {"version": "v1"}, "2": {}}},  # and here for one in ten
        {"sequence": True},
        {"path": PATH.replace("ModelInfer", "ModelReady")},
        {"since": "another generation"},  # under which the token was verified
        {"since": ""},  # there shall be no lessons
    ],
)
def test_what_the_lane_cannot_do_is_not_taught(call: dict[str, object]) -> None:
    assert told(**call) == ""


def test_gateways_that_one_lane_asks_say_the_same_of_the_same() -> None:
    same, other = ("rules", ("a", "b")), ("rules", ("a",))
    assert Generation(lambda: same, common).word() == Generation(lambda: same, common).word()
    assert Generation(lambda: same, common).word() != Generation(lambda: other, common).word()
    assert Generation(lambda: same).word() != Generation(lambda: same).word()
    assert len(common(same)) == 16
    assert Generation(lambda: None, common).word() == ""


def test_a_generation_is_another_whenever_a_part_is() -> None:
    parts: list[object] = ["keys"]
    generation = Generation(lambda: parts[0])
    first = generation.word()
    assert generation.word() == first != ""
    parts[0] = "other keys"
    second = generation.word()
    assert second not in ("", first)
    parts[0] = None
    assert generation.word() == ""
    parts[0] = "other keys"
    assert generation.word() not in ("", first, second)  # who was told to forget has forgotten


# ---- an Envoy that is not ours ----


def external(config: dict[str, Any]) -> None:
    config["listen"]["express"] = "external"


async def asked(world: World) -> str:
    """The generation, as that Envoy asks for it, once there is one: the keys must be there."""
    async with asyncio.timeout(10):
        while True:
            call = world.channel.unary_unary(ASK_PATH)(b"", metadata=[(LEARN_KEY, "1")], timeout=10)
            await call
            if (word := dict(await call.initial_metadata())["x-headrace-generation"]) != "-":
                return str(word)
            await asyncio.sleep(0.01)


async def taught(world: World, *more: tuple[str, str]) -> list[str]:
    """What a call's answer teaches."""
    body = pb.ModelInferRequest(model_name="digits").SerializeToString()
    call = world.channel.unary_unary(PATH)(body, metadata=[world.bearer(), *more], timeout=10)
    await call
    return [str(value) for key, value in await call.initial_metadata() if key == "x-headrace-permit"]


async def test_a_gateway_behind_an_envoy_of_others_teaches_it(tmp_path: Path) -> None:
    async with worlds.world(tmp_path, external) as world:
        (lesson,) = await taught(world, (LEARN_KEY, "1"))
        generation, *_, retries, _, clusters, authority, _, _, _, _ = lesson.split(" ")
        assert generation == await asked(world)
        assert (retries, clusters, authority) == ("0", "100=digits.models.svc:8001", "digits.models.svc:8001")
        assert await taught(world) == []


async def test_nobody_else_is_taught(world: World) -> None:
    assert await taught(world, (LEARN_KEY, "1")) == []
    with pytest.raises(grpc.aio.AioRpcError) as told:
        await asked(world)
    assert told.value.code() is grpc.StatusCode.UNIMPLEMENTED


async def test_gateways_of_one_configuration_say_the_same_and_those_of_another_something_else(tmp_path: Path) -> None:
    async with worlds.world(tmp_path, external) as world:
        path = world.folder / "headrace.yaml"
        config = json.loads(path.read_text())

        async def of_another() -> str:
            path.write_text(json.dumps(config))
            async with (
                serving(load(path, {}), environ={}) as other,
                grpc.aio.insecure_channel(other.grpc, options=worlds.CLIENT) as channel,
            ):
                return await asked(replace(world, channel=channel))

        word = await asked(world)
        assert await of_another() == word
        config["grants"].pop()
        assert await of_another() != word
