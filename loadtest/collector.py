"""Where the gateway's spans go while it is measured. Law: a real OTLP/gRPC collector that counts and forgets."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import grpc
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2 as messages
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2_grpc as service


class Collector(service.TraceServiceServicer):
    """`spans` is how many have come."""

    def __init__(self) -> None:
        self.spans = 0

    def Export(  # noqa: N802 - gRPC's name
        self, request: messages.ExportTraceServiceRequest, _: grpc.ServicerContext
    ) -> messages.ExportTraceServiceResponse:
        """Count a batch."""
        self.spans += sum(len(scope.spans) for resource in request.resource_spans for scope in resource.scope_spans)
        return messages.ExportTraceServiceResponse()


@contextmanager
def collecting() -> Iterator[tuple[Collector, str]]:
    """A collector and its `HOST:PORT`."""
    collector = Collector()
    server = grpc.server(ThreadPoolExecutor(1))
    service.add_TraceServiceServicer_to_server(collector, server)  # type: ignore[no-untyped-call]  # generated
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        yield collector, f"127.0.0.1:{port}"
    finally:
        server.stop(None).wait()
