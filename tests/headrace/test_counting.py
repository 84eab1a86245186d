"""What is counted of calls that the lane carries: as much, under the same names, as of those that Python answers."""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import time
from collections.abc import AsyncIterator, Callable
from itertools import accumulate
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import grpc
import grpc.aio
import pytest
import pytest_asyncio
from prometheus_client.openmetrics.parser import text_string_to_metric_families as read_openmetrics

from gateway import metrics
from gateway.settings import load
from headrace import door
from headrace.counting import Counting
from mesh.express import counted, rules
from mesh.express.counted import Counts as Counted
from protos.metrics.prometheus import OPENMETRICS, PROTOBUF
from tests.envoy import needs_envoy
from tests.gateway import world as worlds
from tests.gateway.test_traces import CALLER, sink
from tests.gateway.world import INFER, World, failing, hanging
from tests.headrace.test_access_log import without_authority
from tests.headrace.test_express import (
    MESSAGE,
    asked_raw,
    by_the_lane,
    carried,
    changed,
    envoys,
    infer,
    pages,
    until_answered,
    until_carried,
)
from tests.protos.metrics.test_prometheus import messages
from tests.scraped import Scraped, page, scraped, until

pytestmark = [needs_envoy, pytest.mark.asyncio(loop_scope="module")]

Code = grpc.StatusCode
Counts = dict[tuple[tuple[str, str], ...], float]
CALLS = "headrace_calls_total"
DURATION = "rpc_server_call_duration_seconds"
WITHIN = "headrace_gateway_duration_seconds"
TO_PYTHON = [("a_b", "1")]  # a key that the lane leaves to it


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def up(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[World]:
    async with worlds.world(tmp_path_factory.mktemp("counting"), express=True) as made:
        yield made


@pytest_asyncio.fixture(loop_scope="module")
async def world(up: World) -> AsyncIterator[World]:
    """Its workers echo, with the version that they are."""
    up.one.behaviour[INFER] = says("1")
    up.two.behaviour[INFER] = says("2")
    await until_carried(up)
    yield up
    up.one.behaviour.clear()


def says(version: str) -> worlds.Behaviour:
    async def answer(message: bytes, _context: grpc.aio.ServicerContext) -> bytes:
        name = worlds.pb.ModelInferRequest.FromString(message).model_name
        return worlds.pb.ModelInferResponse(model_name=name, model_version=version).SerializeToString()

    return answer


def of_lane(found: Scraped, lane: str, name: str = CALLS) -> Counts:
    """Without its lane."""
    counts = found.all(name, lane=lane)
    return {tuple(pair for pair in labels if pair[0] != "lane"): number for labels, number in counts.items()}


def more(now: Counts, before: Counts) -> Counts:
    return {labels: n - before.get(labels, 0) for labels, n in now.items() if n != before.get(labels, 0)}


async def settled(world: World) -> Scraped:
    """What it says once nothing comes any more: each look has what was measured before put together for the next."""
    async with asyncio.timeout(20):
        found = await until(world.admin, lambda now: now.sum("headrace_calls_active") == 0)
        while True:
            await asyncio.sleep(0.1)
            found, last = await scraped(world.admin), found
            if found.all(CALLS) == last.all(CALLS):
                return found


async def outcome(world: World, message: bytes, metadata: worlds.Metadata, timeout: float = 10) -> Code:
    try:
        await world.channel.unary_unary(INFER)(message, metadata=[world.bearer(), *metadata], timeout=timeout)
    except grpc.aio.AioRpcError as error:
        return error.code()
    return Code.OK


# ---- the same by both lanes ----


async def test_the_same_calls_count_the_same_but_for_the_lane(world: World) -> None:
    async def by_python(message: bytes) -> None:
        await outcome(world, message, TO_PYTHON)

    async def by_express(message: bytes) -> None:
        await by_the_lane(world, lambda: outcome(world, message, []))

    async def some(call: Callable[[bytes], Any]) -> None:
        for message in (MESSAGE, MESSAGE, changed(model_version="2"), changed(model_version="1")):
            await call(message)
        for status in (Code.UNAVAILABLE, Code.RESOURCE_EXHAUSTED, Code.INTERNAL, Code.INVALID_ARGUMENT):
            world.one.behaviour[INFER] = failing(status, "words")
            await call(MESSAGE)
        world.one.behaviour[INFER] = says("1")

    for version in ("1", "2"):  # whatever the lane is to be taught, it is
        await by_express(changed(model_version=version))
    before = await settled(world)
    await some(by_python)
    python = await scraped(world.admin)
    await some(by_express)
    express = await settled(world)
    of_python = more(of_lane(python, "python"), of_lane(before, "python"))
    of_express = more(of_lane(express, "express"), of_lane(python, "express"))
    assert of_python == of_express
    assert sum(of_python.values()) == 8
    assert {dict(labels).get("model_version_served") for labels in of_python} == {None, "1", "2"}
    assert {dict(labels).get("reason") for labels in of_python} == {None, "MODEL_NOT_READY", "OVERLOADED", "INTERNAL"}
    # In seconds, and as many of them.
    for name in (DURATION, WITHIN):
        counts = [
            more(of_lane(after, lane, f"{name}_count"), of_lane(earlier, lane, f"{name}_count"))
            for lane, after, earlier in (("python", python, before), ("express", express, python))
        ]
        assert counts[0] == counts[1]
        buckets = more(of_lane(express, "express", f"{name}_bucket"), of_lane(python, "express", f"{name}_bucket"))
        ends = {dict(labels)["le"]: n for labels, n in buckets.items() if dict(labels).get("status", "OK") == "OK"}
        assert ends["5.0"] == ends["+Inf"]


async def test_a_call_takes_as_long_as_it_does(world: World) -> None:
    """Were Envoy's units others, it would be a thousand times as long."""

    async def slow(_message: bytes, _context: grpc.aio.ServicerContext) -> bytes:
        await asyncio.sleep(0.15)
        return b""

    await until_carried(world)
    before = await settled(world)
    world.one.behaviour[INFER] = slow
    await by_the_lane(world, lambda: infer(world))
    now = await settled(world)
    assert 0.13 < now.sum(f"{DURATION}_sum", lane="express") - before.sum(f"{DURATION}_sum", lane="express") < 0.6
    assert now.sum(f"{WITHIN}_sum", lane="express") - before.sum(f"{WITHIN}_sum", lane="express") < 0.1


async def test_a_caller_that_leaves(world: World) -> None:
    before = await settled(world)
    world.one.behaviour[INFER] = hanging(asyncio.Event())
    await by_the_lane(world, lambda: outcome(world, MESSAGE, [], timeout=0.3))
    now = await settled(world)
    (labels,) = more(of_lane(now, "express"), of_lane(before, "express"))
    assert dict(labels)["status"] == "CANCELLED"
    took = now.sum(f"{DURATION}_sum", status="CANCELLED") - before.sum(f"{DURATION}_sum", status="CANCELLED")
    assert 0.2 < took < 2


async def test_every_form_says_the_same(world: World) -> None:
    text = await settled(world)
    _, openmetrics = await page(world.admin, OPENMETRICS)
    samples = [sample for family in read_openmetrics(openmetrics.decode()) for sample in family.samples]
    _, binary = await page(world.admin, PROTOBUF)
    histograms = [one.histogram for one in messages(binary)[DURATION].metric]
    for number in (
        sum(sample.value for sample in samples if sample.name == CALLS),
        sum(metric.counter.value for metric in messages(binary)[CALLS].metric),
        sum(one.sample_count for one in histograms),
        sum(one.zero_count + sum(accumulate(one.positive_delta)) for one in histograms),  # native ones
    ):
        assert number == text.sum(CALLS)


# ---- what callers cannot do ----


async def test_callers_make_no_series(world: World) -> None:
    before = (await settled(world)).series

    async def call(message: bytes, *metadata: tuple[str, str]) -> None:
        await outcome(world, message, list(metadata))

    for number in range(100):
        await call(changed(model_name=f"ghost-{number}"), ("x-model-name", f"ghost-{number}"))
        await call(changed(model_version=f"{number + 3}"), ("x-model-version", f"ghost-{number}"))
        await call(MESSAGE, ("x-grant", f"ghost-{number}"), ("x-request-id", "ghost"), ("x-headrace-to", "ghost"))
        with pytest.raises(grpc.aio.AioRpcError):
            await world.channel.unary_unary(f"/ghost/{number}")(b"", metadata=[("x-request-id", "ghost")], timeout=10)
    await asyncio.to_thread(without_authority, world, FORGED)
    now = (await settled(world)).series - before
    assert "ghost" not in str(now)
    assert len(now) < 110  # refusals, of which there were none
    async with pages(world) as admin:
        text = await admin.get("stats", filter=counted.MEASURED)
    assert "ghost" not in text
    assert set(re.findall(r"Carried\.of\.\S* (\S*) ", text)) <= {"", "1", "2"}


FORGED = [("x-request-id", "6" * 32), ("x-model-name", "ghost"), ("x-grant", "ghost"), ("x-headrace-to", "ghost")]


@pytest.mark.parametrize("check", ["HAS_ID", "only"])
async def test_what_callers_say_would_else_be_counted(
    check: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One of calls that go well, the other of those that do not."""
    anything = {"header_filter": {"header": {"name": "x-model-name", "present_match": True}}}
    monkeypatch.setattr(counted, check, anything if check == "HAS_ID" else lambda _expression: anything)
    async with worlds.world(tmp_path, express=True) as made:
        metadata = [made.bearer()] if check == "HAS_ID" else []
        with contextlib.suppress(grpc.aio.AioRpcError):
            await made.channel.unary_unary(INFER)(MESSAGE, metadata=[*metadata, *FORGED[1:2]], timeout=10)
        await until(made.admin, lambda now: now.sum(CALLS, model_name="ghost") == 1)


async def test_so_many_kinds_of_calls_are_counted_apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Envoy forgets none, and a configuration may change often."""
    monkeypatch.setattr(rules, "_APART", 1)
    monkeypatch.setattr(door, "os", SimpleNamespace(sched_getaffinity=lambda _pid: {0}))  # one thread
    async with worlds.world(tmp_path, express=True) as made:
        await until_carried(made)
        for _ in range(2):
            await by_the_lane(made, lambda: infer(made, changed(model_version="2")))
        made.two.behaviour[INFER] = failing(Code.UNAVAILABLE)
        await by_the_lane(made, lambda: outcome(made, changed(model_version="2"), []))
        number = await carried(made)
        now = await until(made.admin, lambda now: now.sum(CALLS, lane="express") == number)
        assert now.sum(CALLS, lane="express", model_name="_OTHER", status="OK") >= 2
        assert now.sum(CALLS, lane="express", model_name="_OTHER", status="UNAVAILABLE") == 1
        assert now.sum(CALLS, lane="express", model_name="digits", model_version_asked="2") == 0
        assert now.sum(CALLS, lane="express", model_name="digits") >= 1
        assert now.sum(f"{WITHIN}_count", lane="express") == number


# ---- what Python does not see ----


async def test_what_envoy_refuses_is_counted(world: World) -> None:
    before = await settled(world)

    await asyncio.to_thread(asked_raw, world.address, INFER, "k" * 5000)
    now = await until(
        world.admin,
        lambda now: now.sum(CALLS, status="INVALID_ARGUMENT") > before.sum(CALLS, status="INVALID_ARGUMENT"),
    )
    (labels,) = more(of_lane(now, "python"), of_lane(before, "python"))
    assert dict(labels) == {"method": "inference.GRPCInferenceService/ModelInfer", "status": "INVALID_ARGUMENT"}


# ---- copies, and calls under way ----


async def test_copies_and_what_is_under_way(world: World) -> None:
    ready = {("digits", "1"): 1, ("digits", "2"): 1, ("dead", "1"): 0}

    def told(now: Scraped) -> bool:
        return all(
            now.sum("headrace_copies_ready", model_name=model, model_version_served=version) == number
            for (model, version), number in ready.items()
        )

    now = await until(world.admin, told)
    assert now.sum("headrace_copies", model_name="dead") == 1
    reached = asyncio.Event()
    world.one.behaviour[INFER] = hanging(reached)
    call = asyncio.create_task(infer(world))
    await asyncio.wait_for(reached.wait(), 10)
    await until(world.admin, lambda now: now.sum("headrace_calls_active") == 1)
    call.cancel()
    await until(world.admin, lambda now: now.sum("headrace_calls_active") == 0)


# ---- Envoys that come and go ----


async def test_numbers_do_not_fall_when_an_envoy_is_replaced(world: World) -> None:
    await until_carried(world)
    before = await settled(world)
    (envoy,) = envoys(world.folder)
    envoy.kill()
    await until_answered(world)
    await until_carried(world)  # of the new one
    number = await carried(world)
    now = await until(
        world.admin, lambda now: now.sum(CALLS, lane="express") == before.sum(CALLS, lane="express") + number
    )
    for labels, count in before.all(CALLS).items():
        assert now.all(CALLS)[labels] >= count
    for labels, count in before.all(f"{DURATION}_bucket").items():
        assert now.all(f"{DURATION}_bucket")[labels] >= count


class Pages:
    """An Envoy that has measured so many calls of 81 us, and may be replaced while it is asked."""

    def __init__(self) -> None:
        self.number = 0
        self.then: Callable[[], None] = lambda: None

    async def get(self, _path: str, **query: str) -> str:
        name = "headrace.Carried.of.digits  g h OK"
        detail = {"name": name, "totals": [{"lower_bound": 81, "width": 1, "count": self.number}]}
        if "format" in query:
            self.then()
        return json.dumps({"stats": [{"histograms": {"details": [detail]}}]})


async def test_the_next_one_begins_from_nothing(world: World) -> None:
    """Though it may have counted more by the next look than the one before."""
    envoy, settings = Pages(), load(world.folder / "headrace.yaml", {})
    counting = Counting(envoy, settings, Counted("m", "v", "g", {}), "ModelInfer", {})  # type: ignore[arg-type]

    async def told() -> float:
        families = (await counting.told()).families
        return sum(next(family.points for family in families if family.described is metrics.CALLS).values())

    envoy.number = 5
    assert await told() == 5
    envoy.number, envoy.then = 6, counting.replaced
    assert await told() == 5  # that was said by the one that has died
    envoy.number, envoy.then = 7, lambda: None
    assert await told() == 12


async def test_one_that_hangs_costs_a_second_and_no_number(world: World) -> None:
    await until_carried(world)
    before = await settled(world)
    (envoy,) = envoys(world.folder)
    envoy.suspend()
    try:
        began = time.monotonic()
        now = await scraped(world.admin)
        assert time.monotonic() - began < 2.5
    finally:
        envoy.resume()
    assert now.sum(CALLS, lane="express") == before.sum(CALLS, lane="express")
    assert now.sum("headrace_ready") == 1
    assert not now.all("headrace_copies")
    await until_answered(world)


async def test_a_traced_call_has_its_version(tmp_path: Path) -> None:
    async with sink() as traces:

        def traced(config: dict[str, Any]) -> None:
            config["telemetry"] = {"otlp": traces.url, "sample": 0.0}

        async with worlds.world(tmp_path, traced, express=True) as made:
            await until_carried(made)
            await by_the_lane(made, lambda: infer(made, more=[("traceparent", CALLER)]))
            now = await settled(made)
            assert now.sum(CALLS, lane="express") == now.sum(CALLS, lane="express", model_version_served="1")


async def test_nothing_is_counted_where_nothing_is_to_be(tmp_path: Path) -> None:
    def off(config: dict[str, Any]) -> None:
        config["telemetry"]["metrics"] = False

    async with worlds.world(tmp_path, off, express=True) as made:
        await until_carried(made)
        async with pages(made) as admin:
            assert not await admin.get("stats", filter=counted.MEASURED)
