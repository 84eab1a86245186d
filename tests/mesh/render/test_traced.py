"""Sidecars of a rendered mesh have spans in the gateway's traces, on real Envoys with stand-ins for the workers."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from concurrent import futures

import grpc
import pytest
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2 as collector
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2_grpc as collector_grpc
from opentelemetry.proto.trace.v1.trace_pb2 import Span
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from gateway import settings
from headrace.rendering import source_of
from mesh.render.files import mesh_config, render
from mesh.testing import Mesh, running
from mesh.testing.worker import Request
from protos.spans import Spans
from tests.kept import Kept
from tests.mesh.render.test_in_envoy import ENVOY
from workers.spans import CallSpan, is_copy

pytestmark = [pytest.mark.timeout(180), pytest.mark.skipif(ENVOY is None, reason="no envoy")]

DIGITS = "digits.models.svc.cluster.local:8001"
OK, UNAVAILABLE = grpc.StatusCode.OK, grpc.StatusCode.UNAVAILABLE
CALLER = "b2" * 8
CONFIG = """
issuers: [{issuer: https://id.example/, audiences: [headrace], algorithms: [ES256]}]
models:
  - name: digits
    host: digits.models:8001
    versions: {"1": {version: v1}, "2": {version: v2}}
    traffic: {"1": 100, "2": 0}
    retries: {attempts: 2, on: [unavailable]}
    shadow: {version: "2"}
upstream: {mode: mesh, endpoints: {digits: {"1": 127.0.0.1:8101, "2": 127.0.0.1:8102}}}
telemetry: {otlp: "URL"}
"""


class Sink(collector_grpc.TraceServiceServicer):
    """Keeps what Envoys send: (service, span), and the bytes of it all."""

    def __init__(self) -> None:
        self.spans: list[tuple[str, Span]] = []
        self.exported = b""

    def Export(  # noqa: N802 - gRPC's name
        self, request: collector.ExportTraceServiceRequest, _: grpc.ServicerContext
    ) -> collector.ExportTraceServiceResponse:
        self.exported += request.SerializeToString()
        for resource in request.resource_spans:
            names = {each.key: each.value.string_value for each in resource.resource.attributes}
            self.spans += [(names["service.name"], span) for scope in resource.scope_spans for span in scope.spans]
        return collector.ExportTraceServiceResponse()

    def of(self, trace: str, count: int) -> list[tuple[str, Span]]:
        """The spans of a trace by their start, once there are so many."""
        until(lambda: len(self._of(trace)) >= count)
        return sorted(self._of(trace), key=lambda each: each[1].start_time_unix_nano)

    def _of(self, trace: str) -> list[tuple[str, Span]]:
        return [(service, span) for service, span in self.spans if span.trace_id.hex() == trace]


def until(condition: Callable[[], object]) -> None:
    give_up = time.monotonic() + 15
    while not condition():
        assert time.monotonic() < give_up
        time.sleep(0.02)


@pytest.fixture(scope="module")
def sink() -> Iterator[tuple[Sink, str]]:
    made, server = Sink(), grpc.server(futures.ThreadPoolExecutor(2))
    collector_grpc.add_TraceServiceServicer_to_server(made, server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        yield made, f"http://127.0.0.1:{port}"
    finally:
        server.stop(None).wait()


@pytest.fixture(scope="module")
def mesh(sink: tuple[Sink, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mesh]:
    folder = tmp_path_factory.mktemp("traced")
    (folder / "headrace.yaml").write_text(CONFIG.replace("URL", sink[1]))
    source = source_of(settings.load(folder / "headrace.yaml", {}))
    istio, config = folder / "istio", folder / "mesh.yaml"
    istio.mkdir()
    for name, text in render(source, {}).items():
        (istio / name).write_text(text)
    config.write_text(mesh_config(source))
    with running(istio, mesh_config=config) as made:
        yield made


def traced(mesh: Mesh, trace: str, flags: str = "01", **more: str) -> tuple[Request, Request]:
    """What a call in that trace is to the worker, and its copy to the shadow."""
    one, shadow = (mesh.worker(version=version) for version in ("v1", "v2"))
    one.requests.clear()
    shadow.requests.clear()
    sampled = {"x_client_trace_id": trace} if flags == "01" else {}  # as the gateway says it
    call = mesh.call(DIGITS, traceparent=f"00-{trace}-{CALLER}-{flags}", **sampled, **more)
    assert call.status is OK
    until(lambda: one.requests and shadow.requests)
    return one.requests[-1], shadow.requests[-1]


def context(request: Request) -> list[str]:
    return str(request.headers["traceparent"]).split("-")


def test_both_sidecars_are_in_the_callers_trace(mesh: Mesh, sink: tuple[Sink, str]) -> None:
    trace = "a1" * 16
    request, _ = traced(mesh, trace)
    (caller, outbound), (worker, inbound) = sink[0].of(trace, 2)
    assert caller == "gateway"
    assert worker.startswith("digits-")
    assert (outbound.kind, inbound.kind) == (Span.SPAN_KIND_CLIENT, Span.SPAN_KIND_SERVER)
    assert outbound.parent_span_id.hex() == CALLER
    assert inbound.parent_span_id == outbound.span_id
    assert context(request) == ["00", trace, inbound.span_id.hex(), "01"]
    assert {key for key, value in request.headers.items() if "tracestate" in key and value} == set()


def test_what_is_not_sampled_leaves_nothing_and_no_sidecar_begins_a_trace(mesh: Mesh, sink: tuple[Sink, str]) -> None:
    request, _ = traced(mesh, "c3" * 16, "00")
    assert (context(request)[1], context(request)[3]) == ("c3" * 16, "00")
    assert mesh.call(DIGITS).status is OK
    begun = context(mesh.worker(version="v1").requests[-1])
    assert begun[3] == "00"
    traced(mesh, "d4" * 16)
    sink[0].of("d4" * 16, 2)  # exported in order
    assert {trace for trace in ("c3" * 16, begun[1]) if sink[0].of(trace, 0)} == set()


def test_attempts_are_told_apart(mesh: Mesh, sink: tuple[Sink, str]) -> None:
    trace, one = "e5" * 16, mesh.worker(version="v1")
    one.answers(UNAVAILABLE, times=1)
    traced(mesh, trace)
    until(lambda: len(one.requests) == 2)
    assert [request.headers["x-envoy-attempt-count"] for request in one.requests] == ["1", "2"]
    spans = [span for _, span in sink[0].of(trace, 3)]
    (outbound,) = [span for span in spans if span.kind == Span.SPAN_KIND_CLIENT]
    attempts = [span for span in spans if span.kind == Span.SPAN_KIND_SERVER]
    assert {span.parent_span_id for span in attempts} == {outbound.span_id}
    assert {context(request)[2] for request in one.requests} == {span.span_id.hex() for span in attempts}


def test_a_copy_of_a_call_is_told_from_the_call_and_is_in_its_trace(mesh: Mesh) -> None:
    trace = "f6" * 16
    request, copy = traced(mesh, trace)
    assert [is_copy([*each.headers.items()]) for each in (request, copy)] == [False, True]
    exporter = InMemorySpanExporter()
    for each in (request, copy):
        CallSpan(Spans("test", Kept(exporter)), "call", [*each.headers.items()]).close()
    spans = exporter.get_finished_spans()
    assert {f"{span.context.trace_id:032x}" for span in spans} == {trace}
    assert [span.attributes.get("headrace.shadow") for span in spans] == [None, True]


def test_spans_of_sidecars_hold_no_secret(mesh: Mesh, sink: tuple[Sink, str]) -> None:
    trace = "ab" * 16
    traced(mesh, trace, authorization="Basic s3cret", baggage="secret=b4ggage", x_tensor="t3nsor")
    sink[0].of(trace, 2)
    assert not [word for word in (b"s3cret", b"b4ggage", b"t3nsor") if word in sink[0].exported]
