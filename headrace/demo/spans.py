"""Spans as values. Law: OTLP is read here, and nowhere else in the demo.

OTLP: https://opentelemetry.io/docs/specs/otlp/, `opentelemetry.proto.trace.v1`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import KeyValue
from opentelemetry.proto.trace.v1.trace_pb2 import Span as OtlpSpan

Value = str | int | float | bool
_KINDS: Mapping[int, str] = {
    OtlpSpan.SPAN_KIND_SERVER: "server",
    OtlpSpan.SPAN_KIND_CLIENT: "client",
    OtlpSpan.SPAN_KIND_PRODUCER: "producer",
    OtlpSpan.SPAN_KIND_CONSUMER: "consumer",
}


@dataclass(frozen=True)
class Span:
    """One span. Ids in hex, `parent` empty for a root; `start` and `end` in nanoseconds since the epoch."""

    trace: str
    id: str
    parent: str
    service: str
    name: str
    kind: str
    start: int
    end: int
    attributes: Mapping[str, Value] = field(default_factory=dict)


def from_otlp(request: ExportTraceServiceRequest) -> Iterator[Span]:
    """The spans of one export."""
    for of_resource in request.resource_spans:
        service = str(_attributes(of_resource.resource.attributes).get("service.name", "unknown"))
        for of_scope in of_resource.scope_spans:
            for span in of_scope.spans:
                yield Span(
                    span.trace_id.hex(),
                    span.span_id.hex(),
                    span.parent_span_id.hex(),
                    service,
                    span.name,
                    _KINDS.get(span.kind, "internal"),
                    span.start_time_unix_nano,
                    span.end_time_unix_nano,
                    _attributes(span.attributes),
                )


def _attributes(pairs: Sequence[KeyValue]) -> dict[str, Value]:
    found: dict[str, Value] = {}
    for pair in pairs:
        which = pair.value.WhichOneof("value")
        if which in ("string_value", "int_value", "double_value", "bool_value"):
            found[pair.key] = getattr(pair.value, which)
    return found


def tree(spans: Sequence[Span]) -> list[tuple[int, Span]]:
    """(depth, span), parents before their children, by start time. A span without its parent stands as a root."""
    ids = {span.id for span in spans}
    children: dict[str, list[Span]] = {}
    for span in sorted(spans, key=lambda span: span.start):
        children.setdefault(span.parent if span.parent in ids else "", []).append(span)
    found: list[tuple[int, Span]] = []
    waiting = [(0, span) for span in reversed(children.get("", []))]
    while waiting:
        depth, span = waiting.pop()
        found.append((depth, span))
        waiting.extend((depth + 1, child) for child in reversed(children.get(span.id, [])))
    return found
