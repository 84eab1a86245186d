"""The express lane at an ingress gateway that Istio's own control plane configures: the lane's tests, and the table's.

Everything that tests/headrace/test_express.py and tests/gateway/test_service.py say of the lane is said of this one by
the same tests, in a world of its own; what only a control plane can get wrong follows.
"""

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

from mesh.express import parts
from mesh.render import express as rendered
from mesh.testing.calls import interval
from protos import grpc_service_pb2 as pb
from tests.gateway import world as worlds
from tests.gateway.test_service import *  # noqa: F403 - the error table and its neighbours, run here
from tests.gateway.test_service import refused
from tests.gateway.world import CLIENT, INFER, World, echo
from tests.headrace import test_express
from tests.headrace.test_express import (  # noqa: F401 - run here
    MESSAGE,
    by_the_lane,
    infer,
    test_a_call_that_python_has_decided_is_carried,
    test_a_caller_that_leaves_takes_its_call_along,
    test_a_gateway_that_does_not_tell_has_nothing_carried,
    test_a_key_that_is_removed_opens_nothing_a_second_later,
    test_a_large_message_goes_on_as_it_came,
    test_a_message_that_comes_after_a_key_was_removed_is_not_carried,
    test_a_message_that_is_too_large,
    test_a_model_that_takes_python_each_time,
    test_a_request_id_of_a_workers_own_is_nobodys,
    test_a_token_is_good_until_it_expires_and_no_longer,
    test_callers_cannot_have_their_calls_repeated,
    test_callers_cannot_steer_the_lane,
    test_each_check_is_what_makes_it_so,
    test_failures_are_told_as_python_tells_them,
    test_messages_that_are_two_or_none,
    test_nobody_there,
    test_slow_workers_calls_are_carried_like_others,
    test_strangers_are_told_no_generation,
    test_the_largest_message_is_carried,
    test_versions_that_are_named_are_carried_to_their_copies,
    test_were_another_generation_not_another_a_removed_key_would_still_open,
    test_what_is_larger_than_anything_may_be_gets_grpcs_status,
    test_what_is_not_plain_is_pythons,
    test_what_of_a_workers_metadata_callers_get,
    test_what_the_worker_gets_is_what_python_would_send,
    test_what_was_decided_before_a_key_was_removed_teaches_nothing,
    test_workers_teach_the_lane_nothing,
    until_carried,
)
from tests.interop import ingress_world
from tests.interop.ingress_world import carried
from tests.interop.test_istio import found, istioctl

pytestmark = [pytest.mark.interop, pytest.mark.timeout(120)]

Code = grpc.StatusCode


@pytest.fixture(autouse=True)
def behind_the_ingress(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worlds, "world", ingress_world.world)
    monkeypatch.setattr(test_express, "carried", carried)


@pytest_asyncio.fixture
async def express(tmp_path: Path) -> AsyncIterator[World]:
    async with ingress_world.world(tmp_path) as made:
        yield made


@pytest.fixture
def world(express: World) -> World:
    return express


# ---- what Istio takes, and what it makes of it ----


def test_istioctl_takes_what_is_written_and_finds_what_every_envoy_filter_is_told(tmp_path: Path) -> None:
    written = []
    for name, text in ingress_world.files(ingress_world.settings_of(tmp_path, credential="door")).items():
        (tmp_path / name).write_text(text)
        written.append(tmp_path / name)
        said = istioctl("validate", "-f", tmp_path / name)
        assert (said.returncode, "unknown field" in said.stderr) == (0, False), said.stderr
    assert found(*written) == {"IST0133"}  # it is an EnvoyFilter


def test_istioctl_would_tell_of_a_field_that_is_none(tmp_path: Path) -> None:
    files = ingress_world.files(ingress_world.settings_of(tmp_path))
    assert files["express-lane.yaml"].count("codec_type: HTTP2") == 1
    (tmp_path / "a.yaml").write_text(files["express-lane.yaml"].replace("codec_type: HTTP2", "codec: HTTP2"))
    assert "unknown field" in istioctl("validate", "-f", tmp_path / "a.yaml").stderr


async def test_every_patch_is_in_what_the_envoy_is_told(express: World) -> None:
    configs = json.loads(await ingress_world.page(express.folder, "config_dump"))["configs"]
    (listener,) = [one["active_state"]["listener"] for all in configs for one in all.get("dynamic_listeners", ())]
    (routes,) = [one["route_config"] for all in configs for one in all.get("dynamic_route_configs", ())]
    told = listener["filter_chains"][0]["filters"][0]["typed_config"]
    lists = ("early_header_mutation_extensions", "local_reply_config")
    for field, value in parts.manager().items():
        assert told.get(field) == value if field not in lists else told[field], field
    *_, lua, router = told["http_filters"]
    assert router == parts.router()
    assert "outbound|8081||gateway.infer" in lua["typed_config"]["default_source_code"]["inline_string"]
    pythons = {"express-lane-decided": "0s", "express-lane-undecided": parts.IDLE, "express-lane-other": "0s"}
    for host in routes["virtual_hosts"]:
        found = {route["name"]: route for route in host["routes"]}
        assert {name: found.pop(name)["route"]["idle_timeout"] for name in pythons} == pythons
        assert bool(found) is (host["domains"] != ["*"])
        assert all(parts.carried().items() <= route.items() for route in found.values())
        assert all(route["route"]["idle_timeout"] == "0s" for route in found.values())
    assert len(routes["virtual_hosts"]) == 8


@pytest.mark.parametrize("client_ca", [False, True])
def test_the_certificate_is_in_the_secret_that_is_named(client_ca: bool, tmp_path: Path) -> None:
    settings = ingress_world.settings_of(tmp_path, credential="door", client_ca=client_ca)
    (listener,) = ingress_world.generated(tmp_path, "\n---\n".join(ingress_world.files(settings).values()))["listeners"]
    assert listener["address"]["socket_address"]["port_value"] == 8443
    told = json.dumps(listener["filter_chains"][0]["transport_socket"])
    assert '"kubernetes://door"' in told
    assert ('"kubernetes://door-cacert"' in told) is client_ca


# ---- what only a mesh does ----


async def test_versions_are_drawn_by_the_weights_that_are_shifted(tmp_path: Path) -> None:
    def canary(config: dict[str, Any]) -> None:
        config["models"][0]["traffic"] = {"1": 70, "2": 30}

    async with ingress_world.world(tmp_path, canary) as world:
        await until_carried(world)
        before, there = len(world.two.calls), await carried(world)
        for _ in range(400):
            await infer(world)
        low, high = interval(400, 0.3)
        assert low <= len(world.two.calls) - before <= high
        assert await carried(world) - there > 390


async def test_a_failure_is_tried_again_as_the_models_route_says(express: World) -> None:
    async def fail(_message: bytes, context: grpc.aio.ServicerContext) -> bytes:
        return await context.abort(Code.UNAVAILABLE, "no")

    await until_carried(express)
    express.one.behaviour[INFER] = fail

    async def tries() -> int:
        before = len(express.one.calls)
        assert (await refused(infer(express))).reason == "MODEL_NOT_READY"
        return len(express.one.calls) - before

    assert await by_the_lane(express, tries) == 3


async def test_lessons_of_one_gateway_are_good_while_another_is_asked(tmp_path: Path) -> None:
    async with ingress_world.world(tmp_path, gateways=2) as world:
        await until_carried(world)
        before, ends = await carried(world), time.monotonic() + 2  # in which it is asked for eight times
        calls = 0
        while time.monotonic() < ends:
            await infer(world)
            calls += 1
        assert await carried(world) - before == calls


# ---- who may say what ----


STEERING = (("x-headrace-lane", "express"), ("x-model-version", "2"))


@contextlib.asynccontextmanager
async def by_name(folder: Path) -> AsyncIterator[tuple[World, grpc.aio.Channel]]:
    """A world, and a channel to its door that names a model's host."""
    options = [*CLIENT, ("grpc.default_authority", "digits.models.svc.cluster.local:8001")]
    async with (
        ingress_world.world(folder) as world,
        grpc.aio.insecure_channel(world.address, options=options) as channel,
    ):
        yield world, channel


async def test_who_names_a_models_host_is_answered_by_python(tmp_path: Path) -> None:
    async with by_name(tmp_path) as (world, channel):
        for steering in ((), STEERING):
            metadata = channel.unary_unary(worlds.SERVICE + "ServerMetadata")(b"", metadata=steering, timeout=10)
            assert (await refused(metadata)).reason == "TOKEN_MISSING"
        answer = await channel.unary_unary(INFER)(MESSAGE, metadata=[world.bearer(), *STEERING], timeout=10)
        assert pb.ModelInferResponse.FromString(answer).id == "7"
        assert not world.two.calls


@pytest.mark.parametrize("refusing", [True, False])
async def test_were_the_lanes_header_left_a_policy_would_still_refuse_it(
    refusing: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parts, "_OURS", ())
    if not refusing:
        files = ingress_world.files
        other = "request.headers[x-other]"
        monkeypatch.setattr(
            ingress_world,
            "files",
            lambda settings: {
                name: text.replace("request.headers[x-headrace-lane]", other) for name, text in files(settings).items()
            },
        )
    async with by_name(tmp_path) as (world, channel):
        metadata = channel.unary_unary(worlds.SERVICE + "ServerMetadata")(b"", metadata=STEERING, timeout=10)
        if refusing:
            await refused(metadata)
        else:
            await metadata
        assert bool(world.two.calls) is not refusing


# ---- messages that do not come ----


@pytest.mark.parametrize("more", [(), (("a_b", "1"),)], ids=["lane", "python"])
async def test_a_worker_may_take_longer_than_a_message(
    more: tuple[tuple[str, str], ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def slow(message: bytes, context: grpc.aio.ServicerContext) -> bytes:
        await asyncio.sleep(2.5)
        return await echo(message, context)

    monkeypatch.setattr(rendered, "IDLE", "1s")
    async with ingress_world.world(tmp_path) as world:
        await until_carried(world)
        world.one.behaviour[INFER] = slow
        await infer(world, more=more)
        began = time.monotonic()
        told = await refused(world.channel.stream_unary(INFER)(metadata=[world.bearer()], timeout=10))
        assert told.status is not Code.DEADLINE_EXCEEDED
        assert time.monotonic() - began < 5
