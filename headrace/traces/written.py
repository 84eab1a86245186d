"""Traces in the JSON of Jaeger's query API, written. Law: a client of Jaeger's finds in it what Jaeger would write.

OTLP as Jaeger keeps it: https://opentelemetry.io/docs/specs/otel/trace/sdk_exporters/jaeger/. Times in microseconds.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Final

from headrace.traces.spans import Event, Span, Value

_SAFE: Final = 2**53 - 1  # what a JSON number holds in JavaScript
_TYPES: Final = {bool: "bool", int: "int64", float: "float64", str: "string"}
_KEPT_ERROR: Final[Mapping[str, Value]] = {"error": True, "otel.status_code": "ERROR"}

Json = dict[str, Any]


def trace(spans: Sequence[Span]) -> Json:
    """One trace."""
    services = {span.service: f"p{number}" for number, span in enumerate(_one_of_each_service(spans), 1)}
    return {
        "traceID": spans[0].trace,
        "spans": [_span(span, services[span.service]) for span in spans],
        "processes": {process: {"serviceName": service, "tags": []} for service, process in services.items()},
        "warnings": None,
    }


def tags(span: Span) -> Mapping[str, Value]:
    """Its attributes, and what Jaeger makes tags of."""
    described: dict[str, Value] = {"otel.status_description": span.description} if span.description else {}
    return {**span.attributes, "span.kind": span.kind, **(_KEPT_ERROR if span.error else {}), **described}


def fields(event: Event) -> Mapping[str, Value]:
    """Its attributes, and its name as Jaeger keeps it."""
    return {"event": event.name, **event.attributes}


def _one_of_each_service(spans: Iterable[Span]) -> Iterable[Span]:
    return {span.service: span for span in spans}.values()


def _span(span: Span, process: str) -> Json:
    return {
        "traceID": span.trace,
        "spanID": span.id,
        "operationName": span.name,
        "references": list(_references(span)),
        "startTime": span.start // 1000,
        "duration": (span.end - span.start) // 1000,
        "tags": _pairs(tags(span)),
        "logs": [{"timestamp": event.time // 1000, "fields": _pairs(fields(event))} for event in span.events],
        "processID": process,
        "warnings": [f"{span.dropped} attributes, events or links were dropped"] if span.dropped else None,
    }


def _references(span: Span) -> Iterator[Json]:
    if span.parent:
        yield {"refType": "CHILD_OF", "traceID": span.trace, "spanID": span.parent}
    for link in span.links:
        yield {"refType": "FOLLOWS_FROM", "traceID": link.trace, "spanID": link.span}


def _pairs(values: Mapping[str, Value]) -> list[Json]:
    return [{"key": key, "type": _TYPES[type(value)], "value": _safe(value)} for key, value in values.items()]


def _safe(value: Value) -> Value:
    return str(value) if type(value) is int and abs(value) > _SAFE else value
