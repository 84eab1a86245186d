"""Spans to test with, and exports of them."""

from __future__ import annotations

import contextlib
import secrets
from collections.abc import Iterator
from typing import Any

import grpc
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
from opentelemetry.proto.trace.v1.trace_pb2 import Span as OtlpSpan

from headrace.traces.spans import Span

MS = 1_000_000
BEGIN = 1_700_000_000_000_000_000
TRACE = "a1" * 16


def span(of: str, under: str = "", start: int = 0, end: int = 1, **more: Any) -> Span:
    """A span known by two digits; times in ms since BEGIN."""
    made = {"trace": TRACE, "service": "headrace-gateway", "name": "inference.GRPCInferenceService/ModelInfer"}
    made |= {"kind": "server"} | more
    return Span(
        id=of * 8 if len(of) == 2 else of,
        parent=under * 8 if len(under) == 2 else under,
        start=BEGIN + start * MS,
        end=BEGIN + end * MS,
        **made,
    )


def otlp(**more: Any) -> OtlpSpan:
    """As it is sent."""
    made: dict[str, Any] = {
        "trace_id": bytes.fromhex(TRACE),
        "span_id": secrets.token_bytes(8),
        "name": "a span",
        "kind": OtlpSpan.SPAN_KIND_SERVER,
        "start_time_unix_nano": BEGIN,
        "end_time_unix_nano": BEGIN + MS,
    }
    return OtlpSpan(**(made | more))


def request(*spans: OtlpSpan, service: str = "a-service") -> ExportTraceServiceRequest:
    """An export of a service's."""
    made = ExportTraceServiceRequest()
    whole = made.resource_spans.add()
    whole.resource.attributes.append(pair("service.name", service))
    whole.scope_spans.add().spans.extend(spans)
    return made


def pair(key: str, value: str) -> KeyValue:
    return KeyValue(key=key, value=AnyValue(string_value=value))


EXPORT = "/opentelemetry.proto.collector.trace.v1.TraceService/Export"


@contextlib.contextmanager
def exporter(url: str) -> Iterator[Any]:
    """Sends bytes, and gives the answer; in a thread."""
    options = [("grpc.max_send_message_length", -1)]
    with grpc.insecure_channel(url.removeprefix("http://"), options=options) as channel:
        call = channel.unary_unary(EXPORT, response_deserializer=ExportTraceServiceResponse.FromString)
        yield lambda body, **more: call(body, timeout=30, **more)
