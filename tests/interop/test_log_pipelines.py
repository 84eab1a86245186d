"""Lines on their way to Kafka and Elasticsearch: by the real collector, a real broker and a real search engine.

Elasticsearch itself is in no registry; OpenSearch, which was made from it, has the same bulk API, templates and data
streams.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import sys
import urllib.request
from collections import Counter
from collections.abc import AsyncIterator, Iterator, Mapping
from concurrent import futures
from dataclasses import dataclass
from pathlib import Path
from queue import Empty, Queue
from typing import Any

import grpc
import grpc.aio
import pytest
import pytest_asyncio
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2 as traces
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2_grpc as traces_grpc

from protos import grpc_service_pb2 as pb
from protos.grpc_service_pb2_grpc import GRPCInferenceServiceStub
from tests.gateway.tokens import Issuer
from tests.gateway.world import in_front_of
from tests.interop import log_programs as programs
from tests.workers import zoo

pytestmark = [
    pytest.mark.interop,
    pytest.mark.asyncio(loop_scope="module"),
    pytest.mark.skipif(
        programs.OTELCOL is None or programs.KAFKA is None, reason="the collector and Kafka: tests/interop/tools.sh"
    ),
]
BROKEN = """
class Model:
    def __init__(self, folder, config):
        pass

    def infer(self, inputs):
        raise ValueError("authorization: Bearer hidden-from-all\\nforged")
"""
TRACES = {"broken": "4bf92f3577b34da6a3ce929d0e0e4736", "nowhere": "0af7651916cd43dd8448eb211c80319c"}
TEMPLATE = programs.CONFIGS.parent / "elasticsearch" / "index-template.json"


class Spans(traces_grpc.TraceServiceServicer):
    """In Jaeger's place."""

    def __init__(self) -> None:
        self.received: Queue[traces.ExportTraceServiceRequest] = Queue()

    def Export(  # noqa: N802 - gRPC's name
        self, request: traces.ExportTraceServiceRequest, _: grpc.ServicerContext
    ) -> traces.ExportTraceServiceResponse:
        self.received.put(request)
        return traces.ExportTraceServiceResponse()


@dataclass
class World:
    """What was left by a call that fails in the worker, and one that the gateway refuses."""

    logs: Path
    spans: Spans
    token: str
    records: list[Record]

    def of(self, trace_id: str) -> list[Record]:
        return [record for record in self.records if record.trace_id == trace_id]


@dataclass(frozen=True)
class Record:
    """One log record in OTLP's JSON: `dataset` is empty of what came by OTLP."""

    service: str
    dataset: str
    logger: str
    severity: str
    body: str
    trace_id: str
    attributes: Mapping[str, str]

    @property
    def request_id(self) -> str:
        return self.attributes["headrace.request.id"]


def records(message: Mapping[str, Any]) -> Iterator[Record]:
    for of_resource in message["resourceLogs"]:
        resource = attributes(of_resource["resource"].get("attributes", []))
        for scope in of_resource["scopeLogs"]:
            for one in scope["logRecords"]:
                yield Record(
                    resource.get("service.name", ""),
                    resource.get("data_stream.dataset", ""),
                    scope.get("scope", {}).get("name", ""),
                    one.get("severityText", ""),
                    one["body"]["stringValue"],
                    one.get("traceId", ""),
                    attributes(one.get("attributes", [])),
                )


def attributes(pairs: list[dict[str, Any]]) -> dict[str, str]:
    return {pair["key"]: str(next(iter(pair["value"].values()))) for pair in pairs}


@contextlib.asynccontextmanager
async def headrace(log: Path, *arguments: str) -> AsyncIterator[str]:
    """The address of a process of ours, whose standard error is the file."""
    with log.open("wb") as errors:
        child = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "headrace", *arguments), stdout=asyncio.subprocess.PIPE, stderr=errors
        )
    assert child.stdout is not None
    try:
        line = (await asyncio.wait_for(child.stdout.readline(), 60)).decode()
        assert " ready on " in line, log
        yield line.split()[-1]
    finally:
        child.terminate()
        await asyncio.wait_for(child.communicate(), 30)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def world(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[World]:
    folder, repository = tmp_path_factory.mktemp("logs"), tmp_path_factory.mktemp("repository")
    zoo.python(repository, "broken", BROKEN, zoo.ONE_IN_ONE_OUT)
    spans, issuer = Spans(), Issuer()
    jaeger = grpc.server(futures.ThreadPoolExecutor(1))
    traces_grpc.add_TraceServiceServicer_to_server(spans, jaeger)
    port = jaeger.add_insecure_port("127.0.0.1:0")
    jaeger.start()
    broker_folder = tmp_path_factory.mktemp("kafka")
    try:
        with (
            programs.kafka(broker_folder) as broker,
            programs.collector(folder, broker, f"127.0.0.1:{port}") as collector,
            programs.consumed(broker_folder, broker, "headrace.logs") as messages,
        ):
            await calls(folder, repository, issuer, collector)
            made = World(collector.logs, spans, issuer.token(), [])

            def arrived() -> bool:
                made.records[:] = [record for message in messages() for record in records(message)]
                return {model: len(made.of(trace_id)) for model, trace_id in TRACES.items()} == {
                    "broken": 5,
                    "nowhere": 3,
                }

            async with asyncio.timeout(60):
                while not arrived():
                    await asyncio.sleep(0.1)
            yield made
    finally:
        jaeger.stop(None).wait()


async def calls(folder: Path, repository: Path, issuer: Issuer, collector: programs.Collector) -> None:
    logs = collector.logs
    telemetry = {"otlp": collector.otlp, "sample": 1.0, "access_log": str(logs / "access.log")}
    worker = ("worker", "--repository", str(repository), "--listen", "127.0.0.1:0", "--otlp", collector.otlp)
    async with headrace(logs / "worker.log", *worker) as behind:
        config = in_front_of(behind, folder, issuer, "broken", telemetry=telemetry)
        settings = json.loads(config.read_text())
        settings["listen"]["express"] = "off"
        config.write_text(json.dumps(settings))
        async with (
            headrace(logs / "gateway.log", "gateway", "--config", str(config)) as address,
            grpc.aio.insecure_channel(address) as channel,
        ):
            for model, trace_id in TRACES.items():
                inputs = [pb.ModelInferRequest.InferInputTensor(name="x", datatype="FP32", shape=[1])]
                request = pb.ModelInferRequest(model_name=model, inputs=inputs, raw_input_contents=[bytes(4)])
                metadata = [
                    ("authorization", f"Bearer {issuer.token()}"),
                    ("traceparent", f"00-{trace_id}-00f067aa0ba902b7-01"),
                ]
                with pytest.raises(grpc.aio.AioRpcError):
                    await GRPCInferenceServiceStub(channel).ModelInfer(request, metadata=metadata)


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.mark.parametrize(
    ("model", "severities"),
    [
        ("broken", {"headrace-worker": "WARNING", "headrace-gateway": "ERROR"}),
        ("nowhere", {"headrace-gateway": "WARNING"}),
    ],
)
async def test_one_trace_and_one_request_have_the_same_ids_whichever_way_a_line_goes(
    world: World, model: str, severities: Mapping[str, str]
) -> None:
    """Each line came by OTLP and was read from its file; the call's line in the access log from its file alone."""
    told = world.of(TRACES[model])
    assert Counter((one.service, one.dataset) for one in told) == Counter(
        [
            ("headrace-gateway", "headrace.access"),
            *((service, way) for service in severities for way in ("", "headrace")),
        ]
    )
    assert len({one.request_id for one in told}) == 1
    for service, severity in severities.items():
        sent, read = (
            next(one for one in told if (one.service, one.dataset) == (service, way)) for way in ("", "headrace")
        )
        assert (sent.body, sent.severity, sent.logger) == (read.body, read.severity, read.logger)
        assert sent.severity == severity
        assert sent.attributes.items() <= read.attributes.items()
        written = lines(world.logs / f"{service.removeprefix('headrace-')}.log")
        [line] = [line for line in written if line.get("trace_id") == TRACES[model]]
        assert (line["headrace.request.id"], line["message"]) == (sent.request_id, sent.body)


async def test_the_last_word_of_what_is_no_call_arrives(world: World) -> None:
    assert [one.body for one in world.records if one.dataset == "headrace" and one.body == "stopped"]


async def test_no_secret_arrives(world: World) -> None:
    everything = repr(world.records) + "".join(path.read_text() for path in world.logs.iterdir())
    assert "hidden" not in everything
    assert world.token.split(".")[1] not in everything
    assert "[redacted]" in everything
    for path in world.logs.glob("*r*.log"):
        assert not [line for line in path.read_text().splitlines() if not line.startswith("{")]


async def test_spans_go_on_to_jaeger(world: World) -> None:
    seen: set[str] = set()
    with contextlib.suppress(Empty):
        while not seen >= set(TRACES.values()):
            request = world.spans.received.get(timeout=20)
            seen |= {
                span.trace_id.hex()
                for one in request.resource_spans
                for scope in one.scope_spans
                for span in scope.spans
            }
    assert seen >= set(TRACES.values())


@pytest.mark.skipif(programs.OPENSEARCH is None, reason="OpenSearch: tests/interop/tools.sh")
async def test_our_index_template_takes_our_lines_as_data_streams(world: World, tmp_path: Path) -> None:
    """What Fluent Bit, Fluentd and Logstash send: each line as it is, and the time once more as `@timestamp`."""
    with programs.opensearch(tmp_path) as url:
        asked(url, "PUT", "/_index_template/headrace", TEMPLATE.read_text())
        for stream, name in (("headrace", "gateway"), ("headrace", "worker"), ("headrace.access", "access")):
            bulk = [
                json.dumps(part)
                for line in lines(world.logs / f"{name}.log")
                for part in ({"create": {}}, {"@timestamp": line["time"], **line})
            ]
            taken = asked(url, "POST", f"/logs-{stream}-default/_bulk?refresh=true", "\n".join(bulk) + "\n")
            assert not taken["errors"], taken
        for model, trace_id in TRACES.items():
            request_id = world.of(trace_id)[0].request_id
            for query in ({"trace_id": trace_id}, {"headrace.request.id": request_id}):
                found = asked(url, "POST", "/logs-headrace*/_search", json.dumps({"query": {"term": query}}))
                assert found["hits"]["total"]["value"] == {"broken": 3, "nowhere": 2}[model], found
        range_ = {
            "query": {"range": {"duration_ms": {"gte": 0}}},
            "aggs": {"by": {"terms": {"field": "headrace.model.name"}}},
        }
        found = asked(url, "POST", "/logs-headrace.access-default/_search", json.dumps(range_))
        assert {bucket["key"] for bucket in found["aggregations"]["by"]["buckets"]} == set(TRACES)


def asked(url: str, method: str, path: str, body: str) -> Any:
    headers = {"content-type": "application/json"}
    request = urllib.request.Request(f"{url}{path}", body.encode(), headers, method=method)
    with urllib.request.urlopen(request, timeout=30) as answer:
        return json.load(answer)


async def test_the_collector_takes_each_configuration() -> None:
    for more in ([], ["--config", str(programs.CONFIGS / "kafka.yaml")]):
        line = (str(programs.OTELCOL), "validate", "--config", str(programs.CONFIGS / "collector.yaml"), *more)
        child = await asyncio.create_subprocess_exec(*line, stderr=asyncio.subprocess.PIPE, env=dict(os.environ))
        _, said = await child.communicate()
        assert (child.returncode, said) == (0, b"")
