"""What a worker tells of itself: exactly what happened, under names that no caller has made."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import aiohttp
import grpc.aio
import numpy as np
import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as openmetrics
from prometheus_client.parser import text_string_to_metric_families as text
from prometheus_client.samples import Sample

from protos import dropped
from protos import grpc_service_pb2 as pb
from protos.dropped import Signal
from protos.grpc_service_pb2_grpc import GRPCInferenceServiceStub
from protos.metrics.described import LATENCY
from protos.metrics.prometheus import OPENMETRICS, PROTOBUF
from protos.prometheus import metrics_pb2
from tests.protos.metrics.test_otlp import Receiver, receiver  # noqa: F401 - a fixture
from tests.workers import zoo
from tests.workers.calling import floats, in_sequence, refused, request
from tests.workers.conftest import until
from tests.workers.test_stream import COUNTDOWN, DECOUPLED, streamed
from workers.errors import StartError
from workers.gpu import Watch
from workers.metrics import INSTRUMENTS
from workers.server import Options, serving

INFER, STREAM = (f"inference.GRPCInferenceService/{name}" for name in ("ModelInfer", "ModelStreamInfer"))
TRACE = "0af7651916cd43dd8448eb211c80319c"
ONES = {"a": np.ones((1, 2)), "b": np.ones((1, 2))}


@dataclass
class World:
    """A worker, and its pages."""

    stub: GRPCInferenceServiceStub
    channel: grpc.aio.Channel
    pages: str
    session: aiohttp.ClientSession
    samples: list[Sample] = field(default_factory=list)

    async def get(self, path: str, accept: str = "") -> tuple[int, str, bytes]:
        async with self.session.get(f"http://{self.pages}{path}", headers={"Accept": accept}) as answer:
            return answer.status, answer.headers["Content-Type"], await answer.read()

    async def scrape(self) -> None:
        _, _, body = await self.get("/metrics", "application/openmetrics-text")
        self.samples = [sample for family in openmetrics(body.decode()) for sample in family.samples]

    def told(self, name: str, *labels: str) -> Mapping[tuple[str, ...], float]:
        """Of one name, by these labels."""
        return {tuple(one.labels[label] for label in labels): one.value for one in self.samples if one.name == name}


VERSION = ("headrace_model_name", "headrace_model_version_served")
CALL = ("rpc_method", *VERSION, "headrace_lane", "rpc_response_status_code")


@pytest.fixture
async def world(repository: Path, caplog: pytest.LogCaptureFixture) -> AsyncIterator[Any]:
    caplog.set_level("INFO", "headrace.worker")
    async with AsyncExitStack() as stack:

        async def start(**options: Any) -> World:
            chosen = Options(repository, "127.0.0.1:0", drain=5.0, metrics="127.0.0.1:0", **options)
            address = await stack.enter_async_context(serving(chosen))
            (pages,) = re.findall(r"metrics on http://(\S+)/metrics", caplog.text)
            channel = await stack.enter_async_context(grpc.aio.insecure_channel(address))
            session = await stack.enter_async_context(aiohttp.ClientSession())
            return World(GRPCInferenceServiceStub(channel), channel, pages, session)

        yield start


async def counted(world: World, calls: int) -> None:
    """Scrape until so many calls are told of: one is over a moment after its answer."""
    async with asyncio.timeout(10):
        while True:
            await world.scrape()
            if sum(world.told("rpc_server_call_duration_seconds_count", *CALL).values()) >= calls:
                return
            await asyncio.sleep(0.005)


async def test_each_call_is_counted_by_what_became_of_it(repository: Path, world) -> None:
    zoo.add(repository)
    zoo.add(repository, version=2)
    zoo.gated(repository).shut()
    here = await world(queue=1)
    for _ in range(3):
        await here.stub.ModelInfer(request("add", **ONES))
    await refused(here.stub.ModelInfer(request("add", "7", **ONES)))
    await refused(here.stub.ModelInfer(request("add", "2")))  # without inputs
    for name in ("nope", "a" * 100, "add\n"):
        await refused(here.stub.ModelInfer(request(name, **ONES)))
    await here.stub.ServerLive(pb.ServerLiveRequest())
    running = [asyncio.ensure_future(here.stub.ModelInfer(request("gated", x=floats(1))))]
    gate = zoo.Gate(repository / "gated")
    await until(gate.ran)
    running.append(asyncio.ensure_future(here.stub.ModelInfer(request("gated", x=floats(2)))))
    await waits(here, 1)
    full = await refused(here.stub.ModelInfer(request("gated", x=floats(3))))
    assert full.reason == "OVERLOADED"
    running[1].cancel()
    await waits(here, 0)
    gate.open()
    await running[0]
    await counted(here, 12)
    live = "inference.GRPCInferenceService/ServerLive"
    assert here.told("rpc_server_call_duration_seconds_count", *CALL) == {
        (INFER, "add", "2", "", "OK"): 3,
        (INFER, "add", "", "", "NOT_FOUND"): 1,
        (INFER, "add", "2", "", "INVALID_ARGUMENT"): 1,
        (INFER, "", "", "", "NOT_FOUND"): 3,
        (live, "", "", "", "OK"): 1,
        (INFER, "gated", "1", "", "OK"): 1,
        (INFER, "gated", "1", "", "RESOURCE_EXHAUSTED"): 1,
        (INFER, "gated", "1", "", "CANCELLED"): 1,
    }
    for name in ("headrace_queue_duration_seconds_count", "headrace_compute_duration_seconds_count"):
        assert here.told(name, *VERSION) == {("add", "2"): 3, ("gated", "1"): 1}
    assert here.told("headrace_batch_size_sum", *VERSION) == {("add", "2"): 3, ("gated", "1"): 1}


async def waits(here: World, requests: int) -> None:
    """Until so many wait for the gated model."""
    async with asyncio.timeout(10):
        while True:
            await here.scrape()
            if here.told("headrace_queue_depth", *VERSION)["gated", "1"] == requests:
                return
            await asyncio.sleep(0.005)


async def test_time_is_told_where_it_was_spent(repository: Path, world) -> None:
    gate = zoo.gated(repository, zoo.ONE_IN_ONE_OUT)
    here = await world()
    gate.shut()
    began = time.monotonic()
    first = asyncio.ensure_future(here.stub.ModelInfer(request("gated", x=floats(1))))
    await until(gate.ran)
    second = asyncio.ensure_future(here.stub.ModelInfer(request("gated", x=floats(2))))
    await waits(here, 1)
    shut = time.monotonic()
    while time.monotonic() - shut < 0.1:
        await asyncio.sleep(0.01)
    gate.open()
    await asyncio.gather(first, second)
    most = time.monotonic() - began
    await counted(here, 2)
    (queued,) = here.told("headrace_queue_duration_seconds_sum").values()
    (computed,) = here.told("headrace_compute_duration_seconds_sum").values()
    (lasted,) = here.told("rpc_server_call_duration_seconds_sum").values()
    assert 0.1 < queued < most  # the second waited for the first
    assert 0.1 < computed < most
    assert queued + computed < lasted < 2 * most
    assert here.told("headrace_queue_depth", *VERSION) == {("gated", "1"): 0}


async def test_batches_sequences_and_streams_are_counted_once(repository: Path, world) -> None:
    zoo.gated(repository, "max_batch_size: 8\n dynamic_batching { preferred_batch_size: 8 }\n" + zoo.ONE_IN_ONE_OUT)
    zoo.running_sum(repository)
    zoo.python(repository, "countdown", COUNTDOWN, DECOUPLED)
    gate = zoo.Gate(repository / "gated")
    here = await world()
    gate.shut()
    calls = [asyncio.ensure_future(here.stub.ModelInfer(request("gated", x=np.ones((1, 1)))))]
    await until(gate.ran)
    calls += [asyncio.ensure_future(here.stub.ModelInfer(request("gated", x=np.ones((2, 1))))) for _ in range(3)]
    await waits(here, 3)
    gate.open()
    await asyncio.gather(*calls)
    for start in (True, False):
        await here.stub.ModelInfer(in_sequence("sum", 7, start=start, x=floats(1)))
    answers = await streamed(here, *(request("countdown", x=floats(count)) for count in (3, 0)), request("nope"))
    assert len(answers) == 4
    await counted(here, 7)
    assert here.told("headrace_queue_duration_seconds_count", *VERSION) == {
        ("countdown", "1"): 2,
        ("gated", "1"): 4,
        ("sum", "1"): 2,
    }
    sizes = {name: here.told(f"headrace_batch_size_{name}", *VERSION) for name in ("count", "sum")}
    assert {name: told["gated", "1"] for name, told in sizes.items()} == {"count": 2, "sum": 7}
    assert sizes["count"]["countdown", "1"] == sizes["count"]["sum", "1"] == 2
    calls_told = here.told("rpc_server_call_duration_seconds_count", *CALL)
    assert calls_told[STREAM, "", "", "", "OK"] == 1  # a stream's model is that of its last message


@pytest.mark.parametrize(("flags", "wanted"), [("01", {TRACE}), ("00", set())])
async def test_an_exemplar_is_a_sampled_call(repository: Path, world, flags: str, wanted: set[str]) -> None:
    zoo.add(repository)
    here = await world()
    parent = ("traceparent", f"00-{TRACE}-b7ad6b7169203331-{flags}")
    await here.stub.ModelInfer(request("add", **ONES), metadata=(parent,))
    await counted(here, 1)
    for name in ("rpc_server_call_duration", "headrace_queue_duration", "headrace_compute_duration"):
        found = [one for one in here.samples if one.name == f"{name}_seconds_bucket" and one.exemplar]
        assert {one.exemplar.labels["trace_id"] for one in found} == wanted
        for one in found:
            assert one.exemplar.value <= float(one.labels["le"])
            assert abs(float(one.exemplar.timestamp) - time.time()) < 60


async def test_readiness_follows_the_repository(repository: Path, world) -> None:
    zoo.add(repository)
    zoo.add(repository, "other")
    here = await world()

    async def ready() -> Mapping[tuple[str, ...], float]:
        await here.scrape()
        return here.told("headrace_model_ready", *VERSION)

    assert await ready() == {("add", "1"): 1, ("other", "1"): 1}
    (repository / "add" / "2").mkdir()
    (repository / "add" / "2" / "model.onnx").write_bytes(b"no graph")
    (repository / "add" / "config.pbtxt").write_text("version_policy { all {} }")
    await refused(here.stub.RepositoryModelLoad(pb.RepositoryModelLoadRequest(model_name="add")))
    assert await ready() == {("add", "1"): 1, ("add", "2"): 0, ("other", "1"): 1}
    await here.stub.RepositoryModelUnload(pb.RepositoryModelUnloadRequest(model_name="other"))
    assert await ready() == {("add", "1"): 1, ("add", "2"): 0}


async def test_pages_say_whether_calls_may_come_and_draining_ones_do_not(repository: Path, caplog) -> None:
    gate = zoo.gated(repository)
    caplog.set_level("INFO", "headrace.worker")
    chosen = Options(repository, "127.0.0.1:0", drain=10.0, metrics="127.0.0.1:0")
    async with AsyncExitStack() as stack, aiohttp.ClientSession() as session:
        address = await stack.enter_async_context(serving(chosen))
        (pages,) = re.findall(r"metrics on http://(\S+)/metrics", caplog.text)
        channel = grpc.aio.insecure_channel(address)
        here = World(GRPCInferenceServiceStub(channel), channel, pages, session)
        assert (await here.get("/healthz"))[::2] == (200, b"ok\n")
        assert (await here.get("/readyz"))[::2] == (200, b"ready\n")
        gate.shut()
        call = asyncio.ensure_future(here.stub.ModelInfer(request("gated", x=floats(1))))
        await until(gate.ran)
        closing = asyncio.ensure_future(stack.aclose())
        async with asyncio.timeout(10):
            while (await here.get("/readyz"))[::2] != (503, b"not ready: it stops\n"):
                await asyncio.sleep(0.005)
        await here.scrape()
        assert here.told("headrace_model_ready", *VERSION) == {("gated", "1"): 0}
        gate.open()
        await call
        await closing
        await channel.close()


async def test_who_asks_gets_the_form_that_it_likes(repository: Path, world) -> None:
    zoo.add(repository)
    here = await world()
    await here.stub.ModelInfer(request("add", **ONES))
    await counted(here, 1)
    status, kind, body = await here.get("/metrics", f"{PROTOBUF};q=0.7,application/openmetrics-text;q=0.5,*/*;q=0.1")
    assert (status, kind) == (200, PROTOBUF)
    assert "rpc_server_call_duration_seconds" in {family.name for family in delimited(body)}
    assert (await here.get("/metrics", "application/openmetrics-text"))[1] == OPENMETRICS
    assert "process_resident_memory_bytes" in {family.name for family in text((await here.get("/metrics"))[2].decode())}


def delimited(body: bytes) -> list[metrics_pb2.MetricFamily]:
    found = []
    while body:
        size = shift = used = 0
        while True:
            byte = body[used]
            size |= (byte & 0x7F) << shift
            shift, used = shift + 7, used + 1
            if not byte & 0x80:
                break
        found.append(metrics_pb2.MetricFamily.FromString(body[used : used + size]))
        body = body[used + size :]
    return found


async def test_what_is_served_is_what_is_described(repository: Path, world, monkeypatch: pytest.MonkeyPatch) -> None:
    gpu = SimpleNamespace(id="GPU-1", name="NVIDIA H100", utilization=0.5, memory_usage=1.0, memory_limit=2.0)
    monkeypatch.setattr(Watch, "now", lambda _: (gpu,))
    zoo.add(repository)
    here = await world()
    await here.stub.ModelInfer(request("add", **ONES))
    await counted(here, 1)
    families = {family.name: family for family in text((await here.get("/metrics"))[2].decode())}
    for described in INSTRUMENTS:
        family = families.pop(described.family)
        assert (family.type, family.documentation) == (described.kind.value, described.help)
        labels = {label.replace(".", "_") for label in described.labels}
        assert {frozenset(one.labels) - {"le"} for one in family.samples} == {frozenset(labels)}
    assert not families
    before = here.told("headrace_telemetry_dropped_total", "headrace_signal")
    assert before.keys() == {("spans",), ("spans_over_limit",), ("metrics",), ("logs",)}
    dropped.add(Signal.METRICS)
    await here.scrape()
    assert here.told("headrace_telemetry_dropped_total", "headrace_signal")["metrics",] == before["metrics",] + 1
    assert here.told("hw_gpu_utilization_ratio", "hw_id", "hw_name") == {("GPU-1", "NVIDIA H100"): 0.5}


async def test_by_otlp_they_go_too(repository: Path, receiver: tuple[Receiver, str]) -> None:  # noqa: F811
    zoo.add(repository)
    made, url = receiver
    chosen = Options(repository, "127.0.0.1:0", url, "worker-x")
    async with serving(chosen) as address, grpc.aio.insecure_channel(address) as channel:
        await GRPCInferenceServiceStub(channel).ModelInfer(request("add", **ONES))
    (resource,) = made.came.get(timeout=10).resource_metrics  # the last words
    assert {each.key: each.value.string_value for each in resource.resource.attributes}["service.name"] == "worker-x"
    told = {metric.name: metric for metric in resource.scope_metrics[0].metrics}
    (point,) = told["rpc.server.call.duration"].histogram.data_points
    assert point.count == 1
    assert {each.key: each.value.string_value for each in point.attributes} == {
        "rpc.method": INFER,
        "headrace.model.name": "add",
        "headrace.model.version.served": "1",
        "rpc.response.status_code": "OK",
    }


async def test_a_port_that_is_taken_is_told(repository: Path, world) -> None:
    zoo.add(repository)
    here = await world()
    with pytest.raises(StartError, match=rf"cannot listen on {here.pages} \(metrics\): "):
        async with serving(Options(repository, "127.0.0.1:0", metrics=here.pages)):
            pass


async def test_to_write_what_a_hundred_models_have_holds_nobody_up(repository: Path, world) -> None:
    for number in range(100):
        zoo.gated(repository, name=f"m{number:02}")
    here = await world()
    for number in range(100):
        await here.stub.ModelInfer(request(f"m{number:02}", x=floats(1)))
    await counted(here, 100)
    longest, last, done = 0.0, time.monotonic(), asyncio.ensure_future(here.get("/metrics"))
    while not done.done():
        await asyncio.sleep(0)
        now = time.monotonic()
        longest, last = max(longest, now - last), now
    _, _, body = await done
    assert body.count(b"\n") > 100 * 4 * len(LATENCY)
    took = await times(here)
    assert longest < took / 2, (longest, took)


async def times(here: World) -> float:
    began = time.monotonic()
    await here.get("/metrics")
    return time.monotonic() - began


def test_every_name_is_told_once() -> None:
    names = [described.exposed for described in INSTRUMENTS]
    assert len(set(names)) == len(names)
