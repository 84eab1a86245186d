"""OTLP as it comes from the network. Law: whoever sends decides neither how much we unpack nor how much we keep.

The message is walked by its tags, and one span at a time is unpacked: a few bytes can stand for many empty messages.
What is no span is counted and left out; of a span that says too much, the rest is counted and left out. Format:
https://opentelemetry.io/docs/specs/otlp/, `opentelemetry.proto.collector.trace.v1`.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from google.protobuf.message import DecodeError
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
from opentelemetry.proto.resource.v1.resource_pb2 import Resource
from opentelemetry.proto.trace.v1.trace_pb2 import Span as OtlpSpan
from opentelemetry.proto.trace.v1.trace_pb2 import Status

from gateway.wire import LENGTH, Budget, Malformed, fields
from headrace.traces.spans import Event, Link, Span, Value
from protos.tracing import LONGEST

LARGEST: Final = 64 * 1024  # bytes of a span, or of a resource
MOST: Final = 128  # attributes, events and links of a span: what OpenTelemetry's SDKs keep, too
_FIELDS: Final = 50_000  # of a message, down to its spans
_NAME: Final = 256  # characters
_SERVICE: Final = "service.name"
_UNKNOWN: Final = "unknown_service"
_KINDS: Final[Mapping[int, str]] = {
    OtlpSpan.SPAN_KIND_SERVER: "server",
    OtlpSpan.SPAN_KIND_CLIENT: "client",
    OtlpSpan.SPAN_KIND_PRODUCER: "producer",
    OtlpSpan.SPAN_KIND_CONSUMER: "consumer",
}


@dataclass(frozen=True)
class Export:
    """What one message brought: its spans, and how many it had that are none."""

    spans: Sequence[Span]
    rejected: int


class NotOtlp(Exception):  # noqa: N818 - as Malformed
    """The bytes are no ExportTraceServiceRequest that we would read."""


def read(body: bytes) -> Export:
    """The spans of an ExportTraceServiceRequest. Raises NotOtlp."""
    found: list[Span] = []
    rejected = 0
    try:
        for service, start, end in _spans(body):
            span = _span(body[start:end], service) if end - start <= LARGEST else None
            if span is None:
                rejected += 1
            else:
                found.append(span)
    except (Malformed, DecodeError) as error:
        raise NotOtlp(str(error)) from None
    return Export(found, rejected)


def _spans(body: bytes) -> Iterator[tuple[str, int, int]]:
    """Each span's service, and where it stands: ResourceSpans, ScopeSpans and spans are fields 1, 2 and 2."""
    budget = Budget(_FIELDS)
    for start, end in _messages(body, 0, len(body), 1, budget):
        service = _UNKNOWN
        for resource in _messages(body, start, end, 1, budget):
            service = _service(body, *resource)
        for scope in _messages(body, start, end, 2, budget):
            for span in _messages(body, *scope, 2, budget):
                yield service, *span


def _messages(body: bytes, start: int, end: int, number: int, budget: Budget) -> Iterator[tuple[int, int]]:
    for found, wire_type, _, value, stop in fields(body, start, end, budget):
        if found == number and wire_type == LENGTH:
            yield value, stop


def _service(body: bytes, start: int, end: int) -> str:
    if end - start > LARGEST:
        raise Malformed(f"a resource of more than {LARGEST} bytes")
    for pair in Resource.FromString(body[start:end]).attributes:
        if pair.key == _SERVICE and pair.value.string_value:
            return pair.value.string_value[:_NAME]
    return _UNKNOWN


def _span(body: bytes, service: str) -> Span | None:
    """None: it cannot be read, or has no id."""
    try:
        span = OtlpSpan.FromString(body)
    except DecodeError:
        return None
    if not (_is_id(span.trace_id, 16) and _is_id(span.span_id, 8)):
        return None
    kept = _attributes(span.attributes)
    told = (span.attributes, span.events, span.links)
    dropped = span.dropped_attributes_count + span.dropped_events_count + span.dropped_links_count
    return Span(
        span.trace_id.hex(),
        span.span_id.hex(),
        span.parent_span_id.hex() if _is_id(span.parent_span_id, 8) else "",
        service,
        span.name[:_NAME],
        _KINDS.get(span.kind, "internal"),
        span.start_time_unix_nano,
        max(span.start_time_unix_nano, span.end_time_unix_nano),
        kept,
        tuple(
            Event(one.name[:_NAME], one.time_unix_nano, _attributes(one.attributes[:8])) for one in span.events[:MOST]
        ),
        tuple(Link(one.trace_id.hex()[:32], one.span_id.hex()[:16]) for one in span.links[:MOST]),
        span.status.code == Status.STATUS_CODE_ERROR,
        span.status.message[:LONGEST],
        dropped + sum(max(0, len(each) - MOST) for each in told),
    )


def _is_id(value: bytes, size: int) -> bool:
    return len(value) == size and any(value)


def _attributes(pairs: Iterable[KeyValue]) -> dict[str, Value]:
    found: dict[str, Value] = {}
    for pair in pairs:
        if len(found) == MOST:
            break
        if (value := _value(pair.value)) is not None:
            found[pair.key[:_NAME]] = value
    return found


def _value(value: AnyValue) -> Value | None:
    """A scalar; a list of these as JSON, as Jaeger keeps it; None for what is deeper."""
    match value.WhichOneof("value"):
        case "string_value":
            return value.string_value[:LONGEST]
        case "int_value":
            return value.int_value
        case "double_value":
            return value.double_value if math.isfinite(value.double_value) else str(value.double_value)
        case "bool_value":
            return value.bool_value
        case "array_value":
            parts = [_value(each) for each in value.array_value.values[:MOST] if not each.HasField("array_value")]
            return json.dumps(parts, ensure_ascii=False, separators=(",", ":"))[:LONGEST]
        case _:
            return None
