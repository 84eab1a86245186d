"""What a trace shows: the gateway's part, and one trace through to the worker."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

import grpc
import grpc.aio
import numpy as np
import pytest
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2, trace_service_pb2_grpc
from opentelemetry.proto.trace.v1 import trace_pb2

from gateway.server import serving
from gateway.settings import load
from protos import grpc_service_pb2 as pb
from tests.gateway import world as worlds
from tests.gateway.test_service import PRIVATE, refused
from tests.gateway.tokens import Issuer
from tests.gateway.world import INFER, failing
from tests.workers import zoo
from tests.workers.calling import request
from workers.server import Options
from workers.server import serving as worker_serving

CALLER = "00-" + "a1" * 16 + "-" + "b2" * 8 + "-01"


class Sink(trace_service_pb2_grpc.TraceServiceServicer):
    """A collector that keeps what comes: (service name, span)."""

    def __init__(self) -> None:
        self.spans: list[tuple[str, trace_pb2.Span]] = []
        self.came = asyncio.Event()
        self.url = ""

    async def Export(self, request, context):  # noqa: N802 - gRPC's name
        for resource in request.resource_spans:
            service = next(
                each.value.string_value for each in resource.resource.attributes if each.key == "service.name"
            )
            self.spans += [(service, span) for scope in resource.scope_spans for span in scope.spans]
        self.came.set()
        return trace_service_pb2.ExportTraceServiceResponse()

    async def wait(self, count: int) -> list[tuple[str, trace_pb2.Span]]:
        async with asyncio.timeout(15):
            while len(self.spans) < count:
                self.came.clear()
                await self.came.wait()
        return sorted(self.spans, key=lambda each: each[1].start_time_unix_nano)


@contextlib.asynccontextmanager
async def sink() -> AsyncIterator[Sink]:
    made = Sink()
    server = grpc.aio.server()
    trace_service_pb2_grpc.add_TraceServiceServicer_to_server(made, server)
    made.url = f"http://127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
    await server.start()
    try:
        yield made
    finally:
        await server.stop(None)


def attributes(span: trace_pb2.Span) -> dict[str, object]:
    return {each.key: getattr(each.value, each.value.WhichOneof("value")) for each in span.attributes}


async def test_one_trace_from_the_caller_to_the_worker(tmp_path: Path) -> None:
    repository = tmp_path / "models"
    repository.mkdir()
    zoo.add(repository)
    issuer = Issuer()
    async with sink() as traces, worker_serving(Options(repository, "127.0.0.1:0", traces.url)) as worker:
        telemetry = {"otlp": traces.url, "sample": 0}  # the caller's sampled flag decides
        config = worlds.in_front_of(worker, tmp_path, issuer, "add", telemetry=telemetry)
        ones = np.ones((1, 2), np.float32)
        message = request("add", "stable", "caller-id", a=ones, b=ones).SerializeToString()
        async with (
            serving(load(config, {})) as addresses,
            grpc.aio.insecure_channel(addresses.grpc) as channel,
        ):
            token = ("authorization", f"Bearer {issuer.token(sub='ada')}")
            await channel.unary_unary(INFER)(message, metadata=[token, ("traceparent", CALLER)])
            (server_name, server), (client_name, client), (worker_name, served), (_, ran) = await traces.wait(4)

    assert (server_name, client_name, worker_name) == ("headrace-gateway", "headrace-gateway", "headrace-worker")
    assert {span.trace_id.hex() for span in (server, client, served, ran)} == {"a1" * 16}
    assert server.parent_span_id.hex() == "b2" * 8
    assert client.parent_span_id == server.span_id
    assert served.parent_span_id == client.span_id
    assert ran.parent_span_id == served.span_id
    kinds = trace_pb2.Span.SpanKind
    assert [span.kind for span in (server, client, served)] == [
        kinds.SPAN_KIND_SERVER,
        kinds.SPAN_KIND_CLIENT,
        kinds.SPAN_KIND_SERVER,
    ]
    told = attributes(server)
    phases = {name for name in told if name.startswith("headrace.phase.")}
    took = (server.end_time_unix_nano - server.start_time_unix_nano) / 1e9
    assert 0 < sum(float(str(told.pop(name))) for name in phases) <= took + 0.01
    assert phases == {
        f"headrace.phase.{phase}" for phase in ("verify", "read", "authorize", "choose", "admit", "upstream", "answer")
    }
    assert told.pop("headrace.request.id") == attributes(served)["headrace.request.id"]
    assert told == {
        "rpc.system.name": "grpc",
        "rpc.method": "inference.GRPCInferenceService/ModelInfer",
        "rpc.response.status_code": "OK",
        "headrace.lane": "python",
        "headrace.caller": f"ada@{issuer.name}",
        "headrace.grant": "everyone",
        "headrace.model.name": "add",
        "headrace.model.version.asked": "stable",
        "headrace.model.version.served": "1",
    }
    assert attributes(client)["server.address"] == "w.svc:8001"
    assert attributes(served)["headrace.batch.size"] == 1
    assert 0 <= float(str(attributes(served)["headrace.queue.time"])) < 5


async def test_a_refusal_and_a_failure_are_told_with_their_private_words(tmp_path: Path) -> None:
    async with sink() as traces:
        async with worlds.world(tmp_path, lambda config: config["telemetry"].update(otlp=traces.url)) as world:
            world.one.behaviour[INFER] = failing(grpc.StatusCode.INTERNAL, PRIVATE)
            await refused(world.infer("nowhere"))
            await refused(world.infer())
        ((_, refusal), (_, server), (_, client)) = await traces.wait(3)
    assert attributes(refusal)["headrace.reason"] == "NOT_GRANTED"
    assert [attributes(span)["headrace.phase"] for span in (refusal, server)] == ["authorize", "upstream"]
    assert attributes(server)["headrace.reason"] == "INTERNAL"
    assert PRIVATE in server.status.message
    assert PRIVATE in client.status.message
    told = b"".join(span.SerializeToString() for span in (refusal, server, client))
    assert world.bearer()[1][7:40].encode() not in told


async def test_what_is_not_sampled_leaves_nothing_and_is_passed_on_so(tmp_path: Path) -> None:
    def change(config: dict) -> None:
        config["telemetry"] = {"otlp": traces.url, "sample": 0}

    async with sink() as traces:
        async with worlds.world(tmp_path, change) as world:
            await world.infer()
            await world.infer(metadata=[world.bearer(), ("traceparent", CALLER.removesuffix("1") + "0")])
            flags = [str(dict(pairs)["traceparent"])[-2:] for pairs in world.one.metadata]
        assert traces.spans == []  # the gateway has ended, and sent what it had
    assert [int(flag, 16) & 1 for flag in flags] == [0, 0]


async def test_what_the_lane_has_drawn_is_not_drawn_again(tmp_path: Path) -> None:
    """Else a tenth of a tenth would be traced."""

    def change(config: dict) -> None:
        config["telemetry"] = {"otlp": traces.url, "sample": 0}

    async with sink() as traces, worlds.world(tmp_path, change) as world:
        await world.infer(metadata=[world.bearer(), ("x-headrace-sampled", "1")])
        ((_, server), (_, client)) = await traces.wait(2)
        assert client.parent_span_id == server.span_id
        assert "x-headrace-sampled" not in dict(world.one.metadata[-1])


async def test_a_dead_collector_costs_no_call_and_no_time_at_the_end(tmp_path: Path) -> None:
    dead = f"http://{worlds.unused_address()}"
    async with asyncio.timeout(20):
        async with worlds.world(tmp_path, lambda config: config["telemetry"].update(otlp=dead)) as world:
            for _ in range(50):
                await world.infer()
            begun = asyncio.get_running_loop().time()
        assert asyncio.get_running_loop().time() - begun < 10


@pytest.mark.parametrize("method", ["ModelReady", "ModelStatistics"])
async def test_other_calls_are_traced_by_their_names(tmp_path: Path, method: str) -> None:
    async with sink() as traces:
        async with worlds.world(tmp_path, lambda config: config["telemetry"].update(otlp=traces.url)) as world:
            for worker in world.workers.values():
                worker.behaviour[f"/inference.GRPCInferenceService/{method}"] = _nothing
            await world.call(method, pb.ModelReadyRequest(name="digits").SerializeToString())
        names = {span.name for _, span in await traces.wait(2)}
    assert names == {f"inference.GRPCInferenceService/{method}"}


async def _nothing(_message: bytes, _context: grpc.aio.ServicerContext) -> bytes:
    return b""
