"""Spans of calls that the lane has carried, made afterwards. Law: as Python's own, of what the Envoy's line says.

A line is there for each call that nobody sampled, but that failed or was slow (`mesh.express.late`). The worker was
told the id of the span of the call to it, so that its own spans, made as late, are under it.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Mapping
from typing import Final

import grpc
from opentelemetry.trace import SpanContext, SpanKind, Status, StatusCode

from headrace.relayed import relayed
from mesh.express.late import BEFORE, BEGAN, PARENT, TOLD, TOOK, UPSTREAM, Late
from protos import tracing
from protos.spans import Made, Place, Spans, Value

_OK: Final = "OK"
_STATUSES: Final = frozenset(code.name for code in grpc.StatusCode)
_LATEST: Final = 2**63 - 1  # nanoseconds that OTLP can tell
_OF_LINES: Final = frozenset({BEFORE, BEGAN, PARENT, TOLD, TOOK, UPSTREAM})
_HOP: Final = (
    *(tracing.RPC_SYSTEM, tracing.RPC_METHOD, tracing.RPC_STATUS, tracing.ERROR_TYPE, tracing.REASON),
    *(tracing.MODEL, tracing.SERVER_ADDRESS),
)
_Line = Mapping[str, object]


@contextlib.contextmanager
def kept_late(late: Late | None, traces: Spans, fixed: Mapping[str, str]) -> Iterator[None]:
    """While inside, the lines that any Envoy writes become spans; all of them say what is `fixed`."""
    if late is None:
        yield
        return
    with relayed(late.path, Teller(traces, fixed).take):
        yield


class Teller:
    """Makes spans of lines."""

    def __init__(self, made: Spans, fixed: Mapping[str, str]) -> None:
        self._spans = made
        self._fixed = fixed

    def take(self, lines: bytes) -> None:
        """Whole lines; one that nobody can read is none."""
        for line in lines.splitlines():
            with contextlib.suppress(ValueError, KeyError, TypeError, OverflowError, RecursionError):
                self._tell(json.loads(line))

    def _tell(self, line: _Line) -> None:
        hop = _context(line[TOLD])
        parent = _context(line.get(PARENT))
        server = self._spans.under(parent if parent.is_valid else hop)
        if not parent.is_valid:
            server = Place(server.context, parent)  # it is the first
        told, reason = str(line[tracing.RPC_STATUS]), str(line.get(tracing.REASON, ""))
        # A worker may make up others, and what is kept is counted by kind.
        status = told if told in _STATUSES else grpc.StatusCode.UNKNOWN.name
        took = _micros(line, TOOK)
        failure = "" if status == _OK else reason or status
        if not self._spans.keeps(server, failure, took / 1e6):
            return
        began = int(float(str(line[BEGAN])) * 1e9)
        ended, since = began + took * 1000, began + _micros(line, BEFORE) * 1000
        until = min(ended, since + _micros(line, UPSTREAM) * 1000) if UPSTREAM in line else ended
        if not all(0 <= at <= _LATEST for at in (began, ended, since, until)):
            raise ValueError(line)
        said = {name: str(value) for name, value in line.items() if name not in _OF_LINES}
        attributes: dict[str, Value] = {
            **self._fixed,
            **said,
            tracing.RPC_STATUS: status,
            **({} if status == _OK else {tracing.ERROR_TYPE: status}),
        }
        name = self._fixed[tracing.RPC_METHOD]
        outcome = Status(StatusCode.UNSET) if status == _OK else Status(StatusCode.ERROR, reason or status)
        phases = {tracing.PHASES + "upstream": _micros(line, UPSTREAM) / 1e6} if UPSTREAM in line else {}
        self._spans.add(Made(name, SpanKind.SERVER, server, began, ended, {**attributes, **phases}, outcome))
        self._spans.add(
            Made(name, SpanKind.CLIENT, Place(hop, server.context), since, until, dict(_of_hop(attributes)), outcome)
        )


def _of_hop(attributes: Mapping[str, Value]) -> Iterator[tuple[str, Value]]:
    """What the call to the worker says of that."""
    yield from ((name, attributes[name]) for name in _HOP if name in attributes)


def _micros(line: _Line, name: str) -> int:
    value = line.get(name)
    return int(value) if isinstance(value, int | float) else 0


def _context(traceparent: object) -> SpanContext:
    metadata = [("traceparent", str(traceparent or ""))]
    return tracing.extract(metadata).parent
