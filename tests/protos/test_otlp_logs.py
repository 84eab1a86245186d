"""Lines that leave by OTLP: as they are on standard error, without waiting, and counted where they do not arrive."""

from __future__ import annotations

import json
import logging
import threading
import time
from collections.abc import Iterator
from concurrent import futures
from dataclasses import dataclass
from queue import Queue

import grpc
import pytest
from opentelemetry.proto.collector.logs.v1 import logs_service_pb2 as collector
from opentelemetry.proto.collector.logs.v1 import logs_service_pb2_grpc as collector_grpc
from opentelemetry.trace import SpanContext, TraceFlags

from protos import dropped, logs, of_call
from protos.dropped import Signal
from protos.log_settings import Logs

TRACE, SPAN = 0x4BF92F3577B34DA6A3CE929D0E0E4736, 0x00F067AA0BA902B7
log = logging.getLogger("headrace.test")


@dataclass
class Call:
    request_id: str
    span_context: SpanContext


class Collector(collector_grpc.LogsServiceServicer):
    def __init__(self) -> None:
        self.received: Queue[collector.ExportLogsServiceRequest] = Queue()
        self.refuses = False

    def Export(  # noqa: N802 - gRPC's name
        self, request: collector.ExportLogsServiceRequest, context: grpc.ServicerContext
    ) -> collector.ExportLogsServiceResponse:
        self.received.put(request)
        if self.refuses:
            context.abort(grpc.StatusCode.INVALID_ARGUMENT, "no")
        return collector.ExportLogsServiceResponse()


@pytest.fixture
def sink() -> Iterator[tuple[Collector, str]]:
    made = Collector()
    server = grpc.server(futures.ThreadPoolExecutor(1))
    collector_grpc.add_LogsServiceServicer_to_server(made, server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    yield made, f"http://127.0.0.1:{port}"
    server.stop(None).wait()


def lost() -> int:
    return dropped.counts()[Signal.LOGS]


def raise_and_log(call: Call) -> None:
    of_call.begin(call)
    try:
        int("authorization: Bearer hidden-from-all")
    except ValueError:
        log.exception("it failed")


def test_a_line_reaches_a_collector(sink: tuple[Collector, str], capfd: pytest.CaptureFixture[str]) -> None:
    made, otlp = sink
    before = lost()
    call = Call("abc", SpanContext(TRACE, SPAN, is_remote=False, trace_flags=TraceFlags(1)))
    with logs.written(Logs("headrace-test", "json", otlp)):
        thread = threading.Thread(target=raise_and_log, args=(call,))
        thread.start()
        thread.join()
        assert not made.received.get(timeout=20).resource_logs  # it is asked whether it takes any
        (of_resource,) = made.received.get(timeout=20).resource_logs
    [written] = [json.loads(line) for line in capfd.readouterr().err.splitlines()]
    resource = {item.key: item.value.string_value for item in of_resource.resource.attributes}
    (scope,) = of_resource.scope_logs
    (told,) = scope.log_records
    assert (resource["service.name"], scope.scope.name) == (written["service"], written["logger"])
    assert (told.severity_text, told.severity_number) == ("ERROR", 17)
    assert (told.body.string_value, written["message"]) == ("it failed", "it failed")
    assert (told.trace_id.hex(), told.span_id.hex()) == (written["trace_id"], written["span_id"])
    attributes = {item.key: item.value.string_value for item in told.attributes}
    assert attributes == {name: value for name, value in written.items() if name in attributes}
    assert set(attributes) == {"headrace.request.id", "exception.type", "exception.message", "exception.stacktrace"}
    assert "hidden" not in str(of_resource)
    assert lost() == before


@pytest.mark.parametrize("kind", ["black_hole", "nobody"])
def test_a_dead_collector_costs_nothing_and_is_counted(
    kind: str, request: pytest.FixtureRequest, capfd: pytest.CaptureFixture[str]
) -> None:
    before, slowest = lost(), 0.0
    root = logging.getLogger()
    others, root.handlers = root.handlers, []  # pytest's keep every record, slowly
    try:
        with logs.written(Logs("headrace-test", "json", request.getfixturevalue(kind))):
            for number in range(5000):
                started = time.perf_counter()
                log.info("line %d", number)
                slowest = max(slowest, time.perf_counter() - started)
            started = time.perf_counter()
        ended = time.perf_counter() - started
    finally:
        root.handlers = others
    assert lost() - before == 5000
    for line in capfd.readouterr().err.splitlines():
        json.loads(line)  # the SDK's last words are not among them
    assert slowest < 0.5
    assert ended < 5


def test_what_the_collector_does_not_take_is_counted_and_told_to_people_alone(
    sink: tuple[Collector, str], capfd: pytest.CaptureFixture[str]
) -> None:
    made, otlp = sink
    made.refuses = True
    before = lost()
    with logs.written(Logs("headrace-test", "json", otlp)):
        log.info("first")
        made.received.get(timeout=20)
        until = time.monotonic() + 20
        while lost() == before:
            assert time.monotonic() < until
            time.sleep(0.01)
        made.refuses = False
        log.info("second")
        told = made.received.get(timeout=20)
    assert lost() == before + 1
    assert "headrace.telemetry" not in str(told)
    assert [json.loads(line)["logger"] for line in capfd.readouterr().err.splitlines()] == [
        "headrace.test",
        "headrace.telemetry",
        "headrace.test",
    ]


def test_who_takes_no_lines_is_told_of_once_and_misses_none(capfd: pytest.CaptureFixture[str]) -> None:
    server = grpc.server(futures.ThreadPoolExecutor(1))  # with no service: as Jaeger is for lines
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    before = lost()
    try:
        with logs.written(Logs("headrace-test", "json", f"http://127.0.0.1:{port}")):
            for number in range(3):
                log.warning("line %d", number)
            deadline = time.monotonic() + 20
            while "takes no log lines" not in capfd.readouterr().err:
                assert time.monotonic() < deadline
                time.sleep(0.02)
    finally:
        server.stop(None).wait()
    said = capfd.readouterr().err
    assert "takes no log lines" not in said and "UNIMPLEMENTED" not in said
    assert lost() == before
