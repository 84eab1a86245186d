"""Numbers by OTLP: a real receiver gets them; a dead one costs nothing but is told of."""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from queue import Queue
from threading import Event
from typing import Any

import grpc
import pytest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceRequest,
    ExportMetricsServiceResponse,
)
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2_grpc import (
    MetricsServiceServicer,
    add_MetricsServiceServicer_to_server,
)

from protos import collector
from protos.metrics.described import LATENCY
from protos.metrics.instruments import Registry
from protos.metrics.otlp import sent
from protos.metrics.snapshot import Exemplar
from tests.gateway.world import unused_address
from tests.protos.metrics.test_instruments import CALLS, DEPTH, TIMES

TRACE = "0af7651916cd43dd8448eb211c80319c"


class Receiver(MetricsServiceServicer):
    def __init__(self) -> None:
        self.came: Queue[ExportMetricsServiceRequest] = Queue()

    def Export(  # noqa: N802 - the RPC's name
        self, request: ExportMetricsServiceRequest, context: Any
    ) -> ExportMetricsServiceResponse:
        if request.resource_metrics:  # or else it is only asked whether it takes them
            self.came.put(request)
        return ExportMetricsServiceResponse()


@pytest.fixture
def receiver() -> Iterator[tuple[Receiver, str]]:
    server, made = grpc.server(ThreadPoolExecutor(1)), Receiver()
    add_MetricsServiceServicer_to_server(made, server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    yield made, f"http://127.0.0.1:{port}"
    server.stop(None).wait()


def counted() -> Registry:
    made = Registry(lambda: 100.0)
    made.counter(CALLS).add(3, "digits", "")
    made.histogram(TIMES).record(0.003, "python", exemplar=Exemplar(TRACE, 0.003, 99.5))
    made.asked(DEPTH, lambda: {("digits",): 2.0})
    return made


def test_a_collector_gets_all_of_it_again_and_again_and_at_the_end(receiver: tuple[Receiver, str]) -> None:
    made, url = receiver
    lost: list[int] = []
    with sent(url, "headrace-test", counted().snapshot, lambda: lost.append(1), every=0.05):
        first, _ = made.came.get(timeout=10), made.came.get(timeout=10)
    assert not lost
    (of_resource,) = first.resource_metrics
    assert "headrace-test" in [pair.value.string_value for pair in of_resource.resource.attributes]
    metrics = {metric.name: metric for metric in of_resource.scope_metrics[0].metrics}
    assert set(metrics) == {"headrace.calls", "headrace.call.duration", "headrace.queue.depth"}
    (calls,) = metrics["headrace.calls"].sum.data_points
    assert calls.as_int == 3 and metrics["headrace.calls"].sum.is_monotonic
    assert {pair.key: pair.value.string_value for pair in calls.attributes} == {"headrace.model.name": "digits"}
    (times,) = metrics["headrace.call.duration"].histogram.data_points
    assert (times.count, times.sum, tuple(times.explicit_bounds)) == (1, 0.003, LATENCY)
    assert not times.HasField("min") and times.exemplars[0].trace_id.hex() == TRACE
    (depth,) = metrics["headrace.queue.depth"].gauge.data_points
    assert depth.as_double == 2.0


def test_the_last_numbers_go_at_the_end(receiver: tuple[Receiver, str]) -> None:
    made, url = receiver
    with sent(url, "headrace-test", counted().snapshot, lambda: None, every=3600.0):
        pass
    made.came.get(timeout=10)


def test_where_nobody_listens_it_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(collector, "WITHIN", 0.5)
    lost = Event()
    with sent(f"http://{unused_address()}", "headrace-test", counted().snapshot, lost.set, every=0.01):
        assert lost.wait(30)


def test_a_collector_that_takes_no_metrics_loses_none(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    server = grpc.server(ThreadPoolExecutor(1))
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    lost: list[int] = []
    with sent(f"http://127.0.0.1:{port}", "headrace-test", counted().snapshot, lambda: lost.append(1), every=0.01):
        deadline = time.monotonic() + 20
        while "takes no metrics" not in caplog.text and time.monotonic() < deadline:
            time.sleep(0.01)
        time.sleep(0.1)  # so that it could be told more often
    server.stop(None).wait()
    assert caplog.text.count("takes no metrics") == 1
    assert "Failed to export" not in caplog.text
    assert not lost
