"""Traces in the JSON of Jaeger's query API, read. Law: what is not as Jaeger writes it is told, and not taken."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Annotated, Final, Literal

from pydantic import BaseModel, Field, ValidationError

from headrace.traces.spans import Event, Link, Span, Value

_INTERNAL: Final = "internal"
_US: Final = 1000  # nanoseconds
_INTEGER: Final = re.compile("-?[0-9]{1,19}")
_MOST: Final = 2**64
# What Jaeger makes of a span's own fields, and of how it came.
_OWN: Final = ("span.kind", "error", "otel.status_code", "otel.status_description", "internal.span.format", "event")

Id = Annotated[str, Field(pattern=r"^[0-9a-fA-F]{1,32}$")]
Time = Annotated[int, Field(ge=0, le=(2**64 - 1) // _US)]  # microseconds


class NotJaeger(Exception):  # noqa: N818 - as Malformed
    """It is no answer of Jaeger's query API."""


class _Pair(BaseModel):
    key: str
    value: bool | int | float | str
    type: str = "string"


class _Log(BaseModel):
    timestamp: Time
    fields: list[_Pair] = []


class _Reference(BaseModel):
    kind: Literal["CHILD_OF", "FOLLOWS_FROM"] = Field(alias="refType")
    trace: Id = Field(alias="traceID")
    span: Id = Field(alias="spanID")


class _Span(BaseModel):
    trace: Id = Field(alias="traceID")
    id: Id = Field(alias="spanID")
    name: str = Field(alias="operationName")
    references: list[_Reference] = []
    start: Time = Field(alias="startTime")
    duration: Time
    tags: list[_Pair] = []
    logs: list[_Log] | None = None
    process: str = Field(alias="processID")


class _Process(BaseModel):
    service: str = Field(alias="serviceName")


class _Trace(BaseModel):
    spans: list[_Span]
    processes: dict[str, _Process]


class _Traces(BaseModel):
    data: list[_Trace] | None


class _Services(BaseModel):
    data: list[str] | None


def services(body: bytes) -> Sequence[str]:
    """The services of an answer. Raises NotJaeger."""
    try:
        return _Services.model_validate_json(body).data or []
    except ValidationError as error:
        raise _told(error) from None


def traces(body: bytes) -> Sequence[Sequence[Span]]:
    """The spans of each trace of an answer. Raises NotJaeger."""
    try:
        found = _Traces.model_validate_json(body).data or []
        return [[_span(span, trace.processes[span.process].service) for span in trace.spans] for trace in found]
    except ValidationError as error:
        raise _told(error) from None
    except KeyError as error:
        raise NotJaeger(f"a span is of process {error}, which is not there") from None


def _told(error: ValidationError) -> NotJaeger:
    first = error.errors(include_url=False, include_input=False)[0]
    return NotJaeger(": ".join(filter(None, (".".join(map(str, first["loc"])), first["msg"]))))


def _span(span: _Span, service: str) -> Span:
    tags, trace = _values(span.tags), span.trace.lower().zfill(32)
    references = [(one.kind, one.trace.lower().zfill(32), one.span.lower().zfill(16)) for one in span.references]
    kind = str(tags.get("span.kind", _INTERNAL))
    # Jaeger keeps a span once among these: of a parent that is linked, too, the link alone. No trace begins within.
    of_parent = ("CHILD_OF", "FOLLOWS_FROM") if kind == _INTERNAL else ("CHILD_OF",)
    parent = next((of for how in of_parent for one, whose, of in references if (one, whose) == (how, trace)), "")
    return Span(
        trace,
        span.id.lower().zfill(16),
        parent,
        service,
        span.name,
        kind,
        span.start * _US,
        (span.start + span.duration) * _US,
        _without_own(tags),
        tuple(_event(log) for log in span.logs or ()),
        tuple(Link(whose, of) for _, whose, of in references if (whose, of) != (trace, parent)),
        tags.get("error") in (True, "true"),
        str(tags.get("otel.status_description", "")),
    )


def _event(log: _Log) -> Event:
    fields = _values(log.fields)
    return Event(str(fields.get("event", "")), log.timestamp * _US, _without_own(fields))


def _values(pairs: Sequence[_Pair]) -> Mapping[str, Value]:
    return {pair.key: _value(pair) for pair in pairs}


def _value(pair: _Pair) -> Value:
    """Large integers come as texts; what is larger than any of Jaeger's stays one, or becomes one."""
    if pair.type == "int64" and isinstance(pair.value, str) and _INTEGER.fullmatch(pair.value):
        return int(pair.value)
    return str(pair.value) if isinstance(pair.value, int) and abs(pair.value) >= _MOST else pair.value


def _without_own(values: Mapping[str, Value]) -> Mapping[str, Value]:
    return {key: value for key, value in values.items() if key not in _OWN}
