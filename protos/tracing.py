"""Names of attributes, and the context of a trace. Law: both are spelled here only, for whatever tells them.

Names follow OpenTelemetry's RPC conventions where these have one; the rest is under `headrace.`. A trace's context
travels as W3C `traceparent` and `tracestate` in gRPC metadata. Callers' `baggage` does not travel.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Final, NamedTuple

from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.trace import INVALID_SPAN_CONTEXT, Span, SpanContext, TraceFlags, get_current_span
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from protos import batches, collector
from protos.contract import SAMPLED_KEY

RPC_SYSTEM = "rpc.system.name"
RPC_METHOD = "rpc.method"
RPC_STATUS = "rpc.response.status_code"
SERVER_ADDRESS = "server.address"
ERROR_TYPE = "error.type"
MODEL = "headrace.model.name"
VERSION_ASKED = "headrace.model.version.asked"
VERSION_SERVED = "headrace.model.version.served"
REQUEST_ID = "headrace.request.id"
CALLER = "headrace.caller"
ISSUER = "headrace.issuer"
SUBJECT = "headrace.subject"
GRANT = "headrace.grant"
REASON = "headrace.reason"
DECISION = "headrace.decision"
LANE = "headrace.lane"
BATCH_SIZE = "headrace.batch.size"
BATCH_CALLS = "headrace.batch.calls"
QUEUE_TIME = "headrace.queue.time"  # seconds
COMPUTE_TIME = "headrace.compute.time"  # seconds
PROVIDER = "headrace.execution_provider"
ATTEMPT = "headrace.attempt"  # from 1, of those that gRPC or an Envoy has made of one call
SHADOW = "headrace.shadow"  # true: a copy of a call, which nobody waits for
MESSAGES_RECEIVED = "headrace.stream.messages.received"
MESSAGES_SENT = "headrace.stream.messages.sent"
HOPS_LEFT_OUT = "headrace.hops.left_out"
PHASE = "headrace.phase"  # in which a call ended that was not answered
PHASES = "headrace.phase."  # and a phase's name: seconds
CLAIMS = "headrace.claim."  # and a claim's name, of those that the configuration allows
# Of lines; https://opentelemetry.io/docs/specs/otel/compatibility/logging_trace_context/ has the trace's.
TIME = "time"
DURATION = "duration_ms"
TRACE_ID = "trace_id"
SPAN_ID = "span_id"
PEER_ADDRESS = "network.peer.address"
REQUEST_SIZE = "http.request.body.size"
RESPONSE_SIZE = "http.response.body.size"
AUDIT = "headrace.audit"
"""What a line of the audit is that tells of no call."""

# Of log lines.
SEVERITY = "severity"
LOGGER = "logger"
MESSAGE = "message"
SERVICE = "service"
PID = "pid"
EXCEPTION_TYPE = "exception.type"
EXCEPTION_MESSAGE = "exception.message"
EXCEPTION_STACK = "exception.stacktrace"
# Of metrics alone.
SIGNAL = "headrace.signal"
RESULT = "headrace.result"
CERTIFICATE = "headrace.certificate"
DIRECTION = "headrace.direction"
HW_ID = "hw.id"
HW_NAME = "hw.name"

REQUEST_ID_KEY = "x-request-id"  # metadata
TRACED_KEY = "x-client-trace-id"
"""Of a sampled call: Envoys that have no share of their own to draw have spans of it, whatever `traceparent` says.

https://www.envoyproxy.io/docs/envoy/latest/configuration/http/http_conn_man/headers#x-client-trace-id
"""
CONTEXT_KEYS = frozenset({"traceparent", "tracestate", "baggage"})

LONGEST = 1024  # characters of an attribute

_LAST_WORDS = 2.0  # seconds in which what is left is sent when the process ends
_propagator: Final = TraceContextTextMapPropagator()
# What nearly every caller sends, of https://www.w3.org/TR/trace-context/#traceparent-header
_USUAL: Final = re.compile(r"00-(?!0{32})([0-9a-f]{32})-(?!0{16})([0-9a-f]{16})-([0-9a-f]{2})")


class Given(NamedTuple):
    """What metadata says of a trace: the caller's span (invalid: nothing), and whether the lane has drawn the call."""

    parent: SpanContext
    drawn: bool = False


NOTHING: Final = Given(INVALID_SPAN_CONTEXT)


def provider(service: str, otlp: str) -> TracerProvider:
    """A tracer provider of the SDK's, for who calls: every span of its goes to `otlp` (`http://HOST:PORT`)."""
    made = TracerProvider(resource=resource(service), shutdown_on_exit=False)
    made.add_span_processor(sending(otlp))
    return made


def resource(service: str) -> Resource:
    """Who it is that has the spans."""
    return Resource.create({"service.name": service})


def sending(otlp: str) -> batches.Spans:
    """What takes spans that have ended, and sends them there."""
    return batches.Spans(OTLPSpanExporter(**collector.options(otlp)), _LAST_WORDS)


def extract(metadata: Iterable[tuple[str, str | bytes]]) -> Given:
    """The caller's trace context; none when it sent none, or sent it twice."""
    carrier: dict[str, str] = {}
    drawn = False
    for key, value in metadata:
        if key in CONTEXT_KEYS and isinstance(value, str):
            if key in carrier:
                return NOTHING
            carrier[key] = value
        elif key == SAMPLED_KEY:
            drawn = True
    return Given(_parent(carrier) if carrier else INVALID_SPAN_CONTEXT, drawn)


def _parent(carrier: Mapping[str, str]) -> SpanContext:
    usual = _USUAL.fullmatch(carrier.get("traceparent", "")) if len(carrier) == 1 else None
    if usual is None:
        return get_current_span(_propagator.extract(carrier, Context())).get_span_context()
    # As the propagator has it, which takes several times as long.
    trace, span, flags = usual.groups()
    return SpanContext(int(trace, 16), int(span, 16), is_remote=True, trace_flags=TraceFlags(int(flags, 16)))


def inject(span: Span) -> list[tuple[str, str]]:
    """The metadata that makes `span` the parent of what the next process does."""
    return words(span.get_span_context())


def words(context: SpanContext, span_id: int = 0) -> list[tuple[str, str]]:
    """The metadata that makes the span with this context, or one under it, the parent of what the next process does."""
    if not context.is_valid:
        return []
    # The SDK's propagator takes ten times as long for these lines of https://www.w3.org/TR/trace-context/#traceparent-header
    parent = f"00-{context.trace_id:032x}-{span_id or context.span_id:016x}-{context.trace_flags:02x}"
    state = [("tracestate", context.trace_state.to_header())] if context.trace_state else []
    return [("traceparent", parent), *state]
