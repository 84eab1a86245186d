"""Traces: the names and the context that gateway and workers share. Law: attribute names are spelled here only.

Names follow OpenTelemetry's RPC conventions where these have one; the rest is under `headrace.`. A trace's context
travels as W3C `traceparent` and `tracestate` in gRPC metadata. Spans leave in batches from a thread of the SDK's:
a slow or dead collector costs no call, and holds up the end of the process for two seconds at most.
"""

from __future__ import annotations

import random
from collections.abc import Iterable
from typing import Any

from opentelemetry.context import Context, get_value, set_value
from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import SpanLimits, TracerProvider
from opentelemetry.sdk.trace import Tracer as SdkTracer
from opentelemetry.sdk.trace.sampling import ALWAYS_ON
from opentelemetry.trace import (
    NonRecordingSpan,
    NoOpTracer,
    Span,
    SpanContext,
    TraceFlags,
    Tracer,
    get_current_span,
)
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
from opentelemetry.util.types import Attributes

from protos.batches import Spans
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
QUEUE_TIME = "headrace.queue.time"  # seconds
# Of the access log; https://opentelemetry.io/docs/specs/otel/compatibility/logging_trace_context/ has the trace's.
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
CONTEXT_KEYS = frozenset({"traceparent", "tracestate", "baggage"})

LONGEST = 1024  # characters of an attribute
_LAST_WORDS = 2.0  # seconds in which what is left is sent when the process ends

_RANDOM = TraceFlags(TraceFlags.RANDOM_TRACE_ID)
_propagator = TraceContextTextMapPropagator()


def provider(service: str, otlp: str | None, sample: float = 1.0) -> TracerProvider:
    """A tracer provider for one process; spans go by OTLP/gRPC to `otlp` (`http://HOST:PORT`), or nowhere.

    `sample` is the share of traces that begin here and are kept; a caller's sampled flag is followed.
    """
    made = _Provider(service, sample)
    if otlp is not None:
        exporter = OTLPSpanExporter(endpoint=otlp, insecure=otlp.startswith("http://"), timeout=5)
        made.add_span_processor(Spans(exporter, _LAST_WORDS))
    return made


class _Provider(TracerProvider):
    """The SDK's, with tracers that decide first."""

    def __init__(self, service: str, sample: float) -> None:
        super().__init__(
            sampler=ALWAYS_ON,
            resource=Resource.create({"service.name": service}),
            shutdown_on_exit=False,
            span_limits=SpanLimits(max_attribute_length=LONGEST),
        )
        self._sample = sample

    def get_tracer(
        self,
        instrumenting_module_name: str,
        instrumenting_library_version: str | None = None,
        schema_url: str | None = None,
        attributes: Attributes = None,
    ) -> Tracer:
        """The tracer of a module."""
        kept = super().get_tracer(instrumenting_module_name, instrumenting_library_version, schema_url, attributes)
        return _Tracer(kept, self._sample)


class _Tracer(Tracer):
    """Decides before there is a span, as `ParentBased` does after much work: what is not kept costs a context.

    Kept is what comes under a parent that is, and a share of what has no parent.
    """

    def __init__(self, kept: Tracer, share: float) -> None:
        self._kept = kept
        self._share = share

    def start_span(self, name: str, context: Context | None = None, *more: Any, **named: Any) -> Span:  # noqa: ANN401 - handed on
        """A span, which records nothing where it is not kept."""
        parent = get_current_span(context).get_span_context()
        if parent.trace_flags.sampled if parent.is_valid else self._draws(context):
            return self._kept.start_span(name, context, *more, **named)
        return NonRecordingSpan(_not_kept(parent))

    def _draws(self, context: Context | None) -> bool:
        """Whether a trace that begins here is kept; the lane may have drawn already."""
        return get_value(SAMPLED_KEY, context) is True or random.random() < self._share  # noqa: S311 - no secret

    start_as_current_span = SdkTracer.start_as_current_span


def _not_kept(parent: SpanContext) -> SpanContext:
    """A context under the parent's, or of a trace that begins here."""
    span_id = random.getrandbits(64) or 1
    if parent.is_valid:
        flags = TraceFlags(parent.trace_flags & TraceFlags.RANDOM_TRACE_ID)
        return SpanContext(parent.trace_id, span_id, is_remote=False, trace_flags=flags, trace_state=parent.trace_state)
    return SpanContext(random.getrandbits(128) or 1, span_id, is_remote=False, trace_flags=_RANDOM)


def tracer(provider: TracerProvider | None, name: str) -> Tracer:
    """The provider's tracer; without a provider one that records nothing and hands the caller's context on."""
    return provider.get_tracer(name) if provider else NoOpTracer()


def extract(metadata: Iterable[tuple[str, str | bytes]]) -> Context:
    """The caller's trace context, empty when it sent none or sent it twice; and whether the lane has drawn the call."""
    carrier: dict[str, str] = {}
    drawn = False
    for key, value in metadata:
        if key in CONTEXT_KEYS and isinstance(value, str):
            if key in carrier:
                return Context()
            carrier[key] = value
        elif key == SAMPLED_KEY:
            drawn = True
    context = _propagator.extract(carrier, Context()) if carrier else Context()
    return set_value(SAMPLED_KEY, True, context) if drawn else context  # noqa: FBT003 - a value


def inject(span: Span) -> list[tuple[str, str]]:
    """The metadata that makes `span` the parent of what the next process does."""
    context = span.get_span_context()
    if not context.is_valid:
        return []
    # The SDK's propagator takes ten times as long for these lines of https://www.w3.org/TR/trace-context/#traceparent-header
    parent = f"00-{context.trace_id:032x}-{context.span_id:016x}-{context.trace_flags:02x}"
    state = [("tracestate", context.trace_state.to_header())] if context.trace_state else []
    return [("traceparent", parent), *state]
