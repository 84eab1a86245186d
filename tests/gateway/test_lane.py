"""What the express lane is told, and when it is told that all has changed."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from typing import Any

import grpc
import grpc.aio
import pytest

from gateway.authorize import Permit
from gateway.call import read_call
from gateway.caller import Caller
from gateway.choose import choose
from gateway.errors import StartError
from gateway.lane import ASK_PATH, PATH, Generation, Lane
from gateway.limits import NO_LIMITS, Limits
from gateway.rpcs import RPCS, Action
from gateway.server import Addresses, serving
from gateway.settings import load
from mesh.catalog import Model
from protos import grpc_service_pb2 as pb
from protos.contract import LEARN_KEY
from tests.gateway import world as worlds
from tests.gateway.world import World

CALLER = Caller("https://id.example/", "al@ice", {}, 1000.0)
OWN = {"1": {"version": "v1"}, "2": {"version": "v2"}}
BASE = {"name": "digits", "host": "digits.svc:8001", "versions": OWN, "traffic": {"1": 90, "2": 10}, "timeout": "5s"}


def cluster_of(model: Model, version: str) -> str:
    return f"{model.name}/{version}"


def told(
    version: str = "",
    path: str = PATH,
    since: str | None = None,
    limits: Limits = NO_LIMITS,
    lease: int | None = None,
    says: dict[str, int] | None = None,
    **more: object,
) -> str:
    """What the lane is told of a call for a model; the draw falls on version 1."""
    model = Model.model_validate(BASE | more)
    lane = Lane(
        Generation(lambda: 1), {CALLER.issuer: 30.0}, lambda model, version: f"{model.name}/{version}", tries=True
    )
    request = pb.ModelInferRequest(model_name="digits", model_version=version)
    for name, value in (says or {}).items():
        request.parameters[name].int64_param = value
    body = request.SerializeToString()
    call = read_call(RPCS[path], body)
    permit = Permit(CALLER, "digits", Action.INFER, limits, "scope=x")
    since = lane.generation.word() if since is None else since
    route = choose(call, permit, {"digits": model}, 0.0)
    answer = dict(lane.lesson(since, call, permit, route, lambda _permit: lease))
    return answer.get("x-headrace-permit", "")


def test_a_lesson_holds_all_that_carrying_takes() -> None:
    generation, *rest = told().split(" ")
    assert len(generation) == 16
    assert rest == [
        *("1030000", "5000", str(64 * 1024**2), "0", "2", "unavailable", "90=digits/1;10=digits/2"),
        *("digits.svc:8001", "al%40ice@https://id.example/", "scope=x", "digits", "-", "0", "-"),
    ]


def test_a_version_that_is_named_is_pinned() -> None:
    assert told(version="2").split(" ")[-8:] == [
        *("100=digits/2", "digits.svc:8001", "al%40ice@https://id.example/", "scope=x", "digits", "2", "1", "-"),
    ]


def test_of_calls_that_are_counted_some_are_counted_in_advance() -> None:
    assert told(lease=17).split(" ")[-1] == "17"


def test_the_largest_message_is_the_smaller_of_two() -> None:
    assert told(limits=Limits(request=1000)).split(" ")[3] == "1000"
    assert told(limits=Limits(request=1000), max_request="100B").split(" ")[3] == "100"


@pytest.mark.parametrize(
    "call",
    [
        {"version": "canary", "aliases": {"canary": "2"}},  # the message is rewritten
        {"versions": {"1": {}, "2": {}}},  # so it is here
        {"versions": {"1": {"version": "v1"}, "2": {}}},  # and here for one in ten
        {"sequence": True},
        {"limits": Limits(concurrency=8)},  # the lane does not see every end
        {"limits": Limits(priority=2)},  # which is written into the message
        {"limits": Limits(priority=2), "says": {"priority": 2}},  # and of others, which say nothing
        {"timeout_parameter": True, "says": {"timeout": 5}},
        {"lease": 0},
        {"admission": {}},
        {"timeout_parameter": True},
        {"path": PATH.replace("ModelInfer", "ModelReady")},
        {"since": "another generation"},  # under which the token was verified
        {"since": ""},  # there shall be no lessons
    ],
)
def test_what_the_lane_cannot_do_is_not_taught(call: dict[str, object]) -> None:
    assert told(**call) == ""


def test_gateways_that_one_lane_asks_say_the_same_of_the_same() -> None:
    same, other = ("rules", ("a", "b")), ("rules", ("a",))
    assert Generation(lambda: same).word() == Generation(lambda: same).word()
    assert Generation(lambda: same).word() != Generation(lambda: other).word()
    assert len(Generation(lambda: same).word()) == 16
    assert Generation(lambda: None).word() == ""


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
    assert generation.word() == second


# ---- an Envoy that is not ours ----


@contextlib.asynccontextmanager
async def behind_an_ingress(world: World, **sections: Any) -> AsyncIterator[Addresses]:
    """Another gateway of the world's, with these sections in its configuration."""
    config = json.loads((world.folder / "headrace.yaml").read_text())
    config["listen"] |= {"express": "external", "asked": "127.0.0.1:0"}
    path = world.folder / "another.yaml"
    path.write_text(json.dumps(config | sections))
    async with serving(load(path, {}), environ={}) as addresses:
        yield addresses


async def asked(addresses: Addresses) -> str:
    """The generation, once there is one: the keys must be there."""
    async with (
        grpc.aio.insecure_channel(addresses.asked or "", options=worlds.CLIENT) as channel,
        asyncio.timeout(10),
    ):
        while True:
            call = channel.unary_unary(ASK_PATH)(b"", timeout=10)
            await call
            if (word := dict(await call.initial_metadata())["x-headrace-generation"]) != "-":
                return str(word)
            await asyncio.sleep(0.01)


async def taught(world: World, address: str, *more: tuple[str, str]) -> list[str]:
    """What a call's answer teaches."""
    body = pb.ModelInferRequest(model_name="digits").SerializeToString()
    async with grpc.aio.insecure_channel(address, options=worlds.CLIENT) as channel:
        call = channel.unary_unary(PATH)(body, metadata=[world.bearer(), *more], timeout=10)
        await call
        return [str(value) for key, value in await call.initial_metadata() if key == "x-headrace-permit"]


async def test_a_gateway_behind_an_envoy_of_others_teaches_it(world: World) -> None:
    async with behind_an_ingress(world) as addresses:
        word = await asked(addresses)
        (lesson,) = await taught(world, addresses.grpc, (LEARN_KEY, "1"))
        generation, *told = lesson.split(" ")
        assert generation == word
        retries, _, clusters, authority, *_ = told[4:]
        assert (retries, clusters, authority) == ("0", "100=digits.models.svc:8001", "digits.models.svc:8001")
        assert await taught(world, addresses.grpc) == []


async def test_callers_of_a_gateway_that_is_in_front_itself_are_taught_nothing(world: World) -> None:
    assert await taught(world, world.address, (LEARN_KEY, "1")) == []


async def test_gateways_of_one_configuration_say_the_same_and_those_of_another_something_else(world: World) -> None:
    async with behind_an_ingress(world) as one, behind_an_ingress(world) as two:
        assert await asked(one) == await asked(two)
        async with behind_an_ingress(world, grants=[]) as other:
            assert await asked(other) != await asked(one)


async def test_where_the_lane_asks_may_be_taken(world: World) -> None:
    async with behind_an_ingress(world) as one:
        listen = {"address": "127.0.0.1:0", "admin": None, "express": "external", "asked": one.asked}
        with pytest.raises(StartError, match=f"cannot listen on {one.asked}: another process has the port"):
            async with behind_an_ingress(world, listen=listen):
                pytest.fail("it is taken")
