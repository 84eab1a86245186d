"""Mesh mode: the whole gateway behind real Envoys, by the resources that it was rendered to."""

from __future__ import annotations

import asyncio
import urllib.request
from collections import Counter
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from pathlib import Path

import grpc
import grpc.aio
import pytest
import pytest_asyncio
from grpc_health.v1 import health_pb2

from mesh.testing import Mesh
from protos import grpc_service_pb2 as pb
from tests.envoy import needs_envoy
from tests.gateway.mesh_world import World, behind_a_mesh, infer_request
from tests.gateway.test_service import refused
from tests.gateway.world import CLIENT, INFER, SERVICE

Code = grpc.StatusCode
pytestmark = [needs_envoy, pytest.mark.asyncio(loop_scope="module")]


@pytest_asyncio.fixture(scope="module", loop_scope="module", params=[False, True], ids=["python", "express"])
async def shared(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[World]:
    async with behind_a_mesh(tmp_path_factory.mktemp("mesh"), express=request.param, timeout="400ms") as made:
        yield made


@pytest.fixture
def world(shared: World) -> World:
    """The module's world, its workers as if new."""
    for worker in shared.mesh.workers.values():
        worker.answers()
        worker.requests.clear()
    return shared


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0.01)


# ---- what is carried ----


async def test_a_call_reaches_a_copy_with_our_words_alone(world: World) -> None:
    await world.infer(more=[("x-model-name", "other"), ("x-caller", "me"), ("x-model-version", "2"), ("x-own", "1")])
    (headers,) = world.requests("1")
    assert (headers["x-model-name"], headers["x-own"]) == ("digits", "1")
    assert headers["x-caller"] == f"tester@{world.issuer.name}"
    assert "x-model-version" not in headers
    assert "authorization" not in headers
    assert "ns/infer/sa/gateway" in str(headers["x-forwarded-client-cert"])  # the sidecar's certificate, not ours


@pytest.mark.parametrize("asked", ["2", "canary"])
async def test_a_named_version_is_pinned_by_the_mesh(world: World, asked: str) -> None:
    for _ in range(5):
        await world.infer(asked)
    assert len(world.requests("2")) == 5
    assert {headers["x-model-version"] for headers in world.requests("2")} == {"2"}


async def test_calls_that_name_no_version_go_by_the_meshes_weights_not_by_ours(world: World) -> None:
    for _ in range(5):
        await world.infer()
    assert (len(world.requests("1")), len(world.requests("2"))) == (5, 0)
    route = world.resource("digits.yaml")
    try:
        world.mesh.write("digits.yaml", route.replace("weight: 100", "weight: 1").replace("weight: 0", "weight: 100"))
        for _ in range(10):
            await world.infer()
        assert len(world.requests("2")) > 5
    finally:
        world.mesh.write("digits.yaml", route)


async def test_a_stream_is_carried_and_the_models_timeout_does_not_end_it(world: World) -> None:
    stream = world.stream()
    for number in range(3):
        await stream.write(infer_request("2"))
        assert await stream.read() == infer_request("2"), number  # as a stand-in answers
        await asyncio.sleep(0.2)  # over the model's 400 ms in all
    await stream.done_writing()
    assert await stream.code() is Code.OK


async def test_health_and_statistics_ask_by_the_mesh(world: World) -> None:
    ask = health_pb2.HealthCheckRequest(service="digits").SerializeToString()
    check = world.channel.unary_unary("/grpc.health.v1.Health/Check")
    answer = health_pb2.HealthCheckResponse.FromString(await check(ask, metadata=world.metadata, timeout=10))
    assert answer.status == health_pb2.HealthCheckResponse.NOT_SERVING  # a stand-in's answer is empty: not ready
    statistics = world.channel.unary_unary(SERVICE + "ModelStatistics")
    assert await statistics(b"\x0a\x06digits", metadata=world.metadata, timeout=10) == b""
    assert {headers["x-model-version"] for headers in world.requests("1", "2")} == {"1", "2"}


# ---- what the mesh says in a worker's stead ----


async def test_a_call_over_the_models_timeout_is_out_of_time(world: World) -> None:
    for worker in world.mesh.workers.values():
        worker.answers(after=2.0)
    told = await refused(world.infer())
    assert (told.status, told.reason) == (Code.DEADLINE_EXCEEDED, "DEADLINE")


async def test_a_worker_that_is_not_let_through_to_is_our_trouble(world: World) -> None:
    """The caller is told nothing of the mesh; the same call succeeds when the policy is as it should be."""
    policy = world.resource("digits.yaml")
    try:
        world.mesh.write("digits.yaml", policy.replace("ns/infer/sa/gateway", "ns/infer/sa/other"))
        told = await refused(world.infer())
    finally:
        world.mesh.write("digits.yaml", policy)
    assert (told.status, told.reason) == (Code.INTERNAL, "INTERNAL")
    assert "RBAC" not in told.everything
    await world.infer()


async def test_a_model_that_no_copy_serves_is_not_ready(world: World) -> None:
    workers = world.mesh.workers.values()
    for worker in workers:
        worker.stop()
    try:
        told = await refused(world.infer("2"))
        assert (told.status, told.reason) == (Code.UNAVAILABLE, "MODEL_NOT_READY")
        assert "reset reason" not in told.everything
    finally:
        for worker in workers:
            worker.start()


@pytest.mark.parametrize(("requests", "over"), [(2, True), (50, False)])
async def test_what_is_over_the_breaker_is_overload_with_a_time_to_come_back(
    tmp_path: Path, requests: int, over: bool
) -> None:
    """UNAVAILABLE would be tried again by every mesh on the way. With a wide breaker the same calls succeed."""
    async with behind_a_mesh(tmp_path, breaker={"requests": requests, "pending": requests}) as world:
        for worker in world.mesh.workers.values():
            worker.answers(after=1.0)
        first = [asyncio.create_task(world.infer()) for _ in range(2)]
        await until(lambda: len(world.requests("1")) == 2)
        more = asyncio.create_task(world.infer())
        if over:
            told = await refused(more)
            assert (told.status, told.reason, told.retry_after) == (Code.RESOURCE_EXHAUSTED, "OVERLOADED", 0.1)
        await asyncio.gather(*first, *([] if over else [more]))
    assert len(world.requests("1")) == (2 if over else 3)  # nothing was tried again


async def test_a_breaker_as_wide_as_its_default_opens(tmp_path: Path) -> None:
    """One connection would carry as many calls as it allows, and let the others wait in the gateway."""
    async with behind_a_mesh(tmp_path) as world:
        for worker in world.mesh.workers.values():
            worker.answers(after=30.0)
        async with grpc.aio.insecure_channel(world.address, options=CLIENT) as channel:
            callers = (world, replace(world, channel=channel))  # a gateway takes 1000 calls of each connection
            calls = [asyncio.create_task(caller.infer()) for caller in callers for _ in range(600)]
            try:
                await until(lambda: any(call.done() for call in calls))
                first = await refused(next(call for call in calls if call.done()))
            finally:
                for call in calls:
                    call.cancel()
                await asyncio.gather(*calls, return_exceptions=True)
    assert (first.status, first.reason) == (Code.RESOURCE_EXHAUSTED, "OVERLOADED")


def ejections(mesh: Mesh, subset: str) -> int:
    at = mesh.sidecars["gateway"].admin
    with urllib.request.urlopen(f"http://{at}/stats?filter={subset}.*ejections_enforced_total") as page:
        return int(page.read().decode().rpartition(": ")[2])


@pytest.mark.parametrize(("leeway", "ejected"), [(None, False), (-0.03, True)])
async def test_callers_in_a_hurry_eject_no_copy(
    leeway: float | None, ejected: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A caller's deadline is no fault of the worker's. A sidecar that knew of it would hold it against the copy."""
    if leeway is not None:
        monkeypatch.setattr("gateway.exchange.LEEWAY", leeway)
    eager = {"errors": 3, "interval": "100ms", "time": "60s", "most": "50%"}
    async with behind_a_mesh(tmp_path, ejection=eager, retries={"attempts": 0}) as world:
        for worker in world.mesh.workers.values():
            worker.answers(after=1.0)
        hurry = world.channel.unary_unary(INFER)

        async def counted() -> int:
            calls = [hurry(infer_request(), metadata=world.metadata, timeout=0.1) for _ in range(8)]
            await asyncio.gather(*(refused(call) for call in calls))
            return await asyncio.to_thread(ejections, world.mesh, "v1")

        if ejected:
            async with asyncio.timeout(20):
                while not await counted():
                    pass
        else:
            assert [await counted() for _ in range(4)] == [0] * 4


# ---- state ----


async def copies_by_sequence(world: World) -> dict[str, set[str]]:
    for sequence in range(1, 25):
        for _ in range(5):
            await world.infer(sequence=sequence)
    seen: dict[str, set[str]] = {}
    for worker in world.mesh.workers.values():
        for request in worker.requests:
            seen.setdefault(str(request.headers.get("x-sequence-id", "")), set()).add(worker.name)
    return seen


async def test_a_sequence_stays_with_one_copy(tmp_path: Path) -> None:
    async with behind_a_mesh(tmp_path, sequence=True) as world:
        seen = await copies_by_sequence(world)
    assert len(seen) == 24
    assert all(len(copies) == 1 for copies in seen.values())
    assert len(Counter(next(iter(copies)) for copies in seen.values())) == 2  # both copies have sequences


async def test_without_state_the_same_calls_go_anywhere(world: World) -> None:
    seen = await copies_by_sequence(world)
    assert set(seen) == {""}
    assert len(seen[""]) == 2


# ---- every copy ----

LOAD = SERVICE + "RepositoryModelLoad"
OF_DIGITS = pb.RepositoryModelLoadRequest(model_name="digits").SerializeToString()


async def test_what_every_copy_must_get_each_gets_once(tmp_path: Path) -> None:
    """By routes of their own, without the model's timeout and retries; callers cannot take these."""
    async with behind_a_mesh(tmp_path, copies={"1": 2, "2": 1}, timeout="300ms", ejection={"most": "100%"}) as world:
        workers = world.mesh.workers.values()
        for worker in workers:
            worker.answers(after=0.5)
        call = world.channel.unary_unary(LOAD)(OF_DIGITS, metadata=world.metadata, timeout=10)
        await call
        assert dict(await call.initial_metadata())["x-headrace-copies"] == "3/3"
        assert [len(worker.requests) for worker in workers] == [1, 1, 1]

        for worker in workers:
            worker.answers()
        ill = next(iter(workers))
        ill.answers(Code.UNAVAILABLE)
        for _ in range(8):  # more than eject a copy from inference
            told = await refused(world.channel.unary_unary(LOAD)(OF_DIGITS, metadata=world.metadata, timeout=10))
            assert (told.status, told.reason) == (Code.UNAVAILABLE, "MODEL_NOT_READY")
            assert told.text == "1 of 3 copies failed: digits 1, copy 1: it does not answer"
        assert [len(worker.requests) for worker in workers] == [9, 9, 9]

        ill.answers()
        for worker in workers:
            worker.requests.clear()
        for _ in range(20):
            await world.infer(more=[("x-headrace-copy", "0"), ("x-model-version", "1")])
        assert all(worker.requests for worker in workers if worker.labels["version"] == "v1")
        assert {headers.get("x-headrace-copy") for headers in world.requests("1", "2")} == {None}


async def test_where_the_mesh_chooses_the_copy_nothing_is_done_by_halves(world: World) -> None:
    told = await refused(world.channel.unary_unary(LOAD)(OF_DIGITS, metadata=world.metadata, timeout=10))
    assert (told.status, told.reason) == (Code.FAILED_PRECONDITION, "COPIES_UNKNOWN")
    assert not world.requests("1", "2")
    statistics = world.channel.unary_unary(SERVICE + "ModelStatistics")(b"", metadata=world.metadata, timeout=10)
    await statistics
    assert dict(await statistics.initial_metadata())["x-headrace-copies"] == "2/?"


# ---- a shadow ----


@pytest.mark.parametrize("status", [Code.OK, Code.INTERNAL])
async def test_a_shadow_never_changes_the_answer(tmp_path: Path, status: grpc.StatusCode) -> None:
    async with behind_a_mesh(tmp_path, shadow={"version": "2"}) as world:
        (shadow,) = (worker for worker in world.mesh.workers.values() if worker.labels["version"] == "v2")
        shadow.answers(status, after=0.3)
        for _ in range(20):
            await world.infer()
        await world.infer("1")  # names a version: not copied
        await until(lambda: len(shadow.requests) == 20)
        assert len(world.requests("1")) == 21
