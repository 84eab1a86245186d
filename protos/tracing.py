"""Traces: the names and the context that gateway and workers share. Law: attribute names are spelled here only.

Names follow OpenTelemetry's RPC conventions where these have one; the rest is under `headrace.`. A trace's context
travels as W3C `traceparent` and `tracestate` in gRPC metadata. Spans leave in batches from a thread of the SDK's:
a slow or dead collector costs no call, and holds up the end of the process for two seconds at most.
"""

from __future__ import annotations

from collections.abc import Iterable
from threading import Timer

from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import SpanLimits, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.sdk.trace.sampling import ParentBased, TraceIdRatioBased
from opentelemetry.trace import NoOpTracer, Span, Tracer
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

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
REASON = "headrace.reason"
LANE = "headrace.lane"
BATCH_SIZE = "headrace.batch.size"
QUEUE_TIME = "headrace.queue.time"  # seconds

REQUEST_ID_KEY = "x-request-id"  # metadata
CONTEXT_KEYS = frozenset({"traceparent", "tracestate", "baggage"})

_LONGEST = 1024  # characters of an attribute
_LAST_WORDS = 2.0  # seconds in which what is left is sent when the process ends

_propagator = TraceContextTextMapPropagator()


def provider(service: str, otlp: str | None, sample: float = 1.0) -> TracerProvider:
    """A tracer provider for one process; spans go by OTLP/gRPC to `otlp` (`http://HOST:PORT`), or nowhere.

    `sample` is the share of traces that begin here and are kept; a caller's sampled flag is followed.
    """
    resource = Resource.create({"service.name": service})
    made = TracerProvider(
        sampler=ParentBased(TraceIdRatioBased(sample)),
        resource=resource,
        shutdown_on_exit=False,
        span_limits=SpanLimits(max_attribute_length=_LONGEST),
    )
    if otlp is not None:
        exporter = OTLPSpanExporter(endpoint=otlp, insecure=otlp.startswith("http://"), timeout=5)
        made.add_span_processor(_Batches(exporter, schedule_delay_millis=500))
    return made


class _Batches(BatchSpanProcessor):
    """The SDK's own would wait 30 s for a dead collector when it is shut down."""

    def shutdown(self) -> None:
        impatience = Timer(_LAST_WORDS, self.span_exporter.shutdown)  # ends the export that runs, and all after it
        impatience.start()
        try:
            super().shutdown()  # type: ignore[no-untyped-call]  # the SDK gives it no return type
        finally:
            impatience.cancel()


def tracer(provider: TracerProvider | None, name: str) -> Tracer:
    """The provider's tracer; without a provider one that records nothing and hands the caller's context on."""
    return provider.get_tracer(name) if provider else NoOpTracer()


def extract(metadata: Iterable[tuple[str, str | bytes]]) -> Context:
    """The caller's trace context, empty when it sent none or sent it twice."""
    carrier: dict[str, str] = {}
    for key, value in metadata:
        if key in CONTEXT_KEYS and isinstance(value, str):
            if key in carrier:
                return Context()
            carrier[key] = value
    return _propagator.extract(carrier, Context()) if carrier else Context()


def inject(span: Span) -> list[tuple[str, str]]:
    """The metadata that makes `span` the parent of what the next process does."""
    context = span.get_span_context()
    if not context.is_valid:
        return []
    # The SDK's propagator takes ten times as long for these lines of https://www.w3.org/TR/trace-context/#traceparent-header
    parent = f"00-{context.trace_id:032x}-{context.span_id:016x}-{context.trace_flags:02x}"
    state = [("tracestate", context.trace_state.to_header())] if context.trace_state else []
    return [("traceparent", parent), *state]
