"""Spans on their way out. Law: a slow or dead collector costs no call and bounded memory, and what is lost is counted.

Spans leave in batches from a thread of the SDK's, at most `_MOST` wait, and what fails to leave is not kept. The end of
the process is held up for two seconds at most.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from threading import Lock, Timer
from typing import Final

from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult

Lost = Callable[[str, int], None]
"""Told of so many of a signal that are lost; `protos.dropped.count`."""

_SPANS: Final = "spans"
_MOST: Final = 2048  # spans that wait, or are under way
_TOGETHER: Final = 512  # spans of an export
_EVERY: Final = 500  # milliseconds
_PATIENCE: Final = 5.0  # seconds in which the collector must take an export
_LAST_WORDS: Final = 2.0  # seconds in which what is left is sent when the process ends


def resource(service: str) -> Resource:
    """Who it is that has the spans."""
    return Resource.create({"service.name": service})


class Batches(BatchSpanProcessor):
    """To `otlp` (`http://HOST:PORT`, OTLP/gRPC); the SDK's own would wait 30 s for a dead collector at its end."""

    def __init__(self, otlp: str, lost: Lost) -> None:
        exporter = OTLPSpanExporter(endpoint=otlp, insecure=otlp.startswith("http://"), timeout=_PATIENCE)
        self._counted = _Counted(exporter, lost)
        super().__init__(
            self._counted, max_queue_size=_MOST, schedule_delay_millis=_EVERY, max_export_batch_size=_TOGETHER
        )

    def on_end(self, span: ReadableSpan) -> None:
        """Take a span that has ended, if there is room. Never blocks."""
        if span.context and span.context.trace_flags.sampled and self._counted.admits():
            super().on_end(span)

    def shutdown(self) -> None:
        """Send what is left, or give up after a moment."""
        impatience = Timer(_LAST_WORDS, self._counted.shutdown)  # ends the export that runs, and all after it
        impatience.start()
        try:
            super().shutdown()  # type: ignore[no-untyped-call]  # the SDK gives it no return type
        finally:
            impatience.cancel()
            self._counted.close()


class _Counted(SpanExporter):
    """Keeps count of the spans that wait, of which the SDK's queue would let go silently, and of those lost."""

    def __init__(self, exporter: SpanExporter, lost: Lost) -> None:
        self._exporter = exporter
        self._lost = lost
        self._lock = Lock()
        self._waiting = 0

    def admits(self) -> bool:
        """Whether there is room for another."""
        with self._lock:
            if self._waiting < _MOST:
                self._waiting += 1
                return True
        self._lost(_SPANS, 1)
        return False

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Hand them on."""
        result = SpanExportResult.FAILURE
        try:
            result = self._exporter.export(spans)
        finally:
            with self._lock:
                self._waiting -= len(spans)
            if result is not SpanExportResult.SUCCESS:
                self._lost(_SPANS, len(spans))
        return result

    def shutdown(self) -> None:
        """End the export that runs, and all after it."""
        self._exporter.shutdown()

    def close(self) -> None:
        """What waits now is lost."""
        with self._lock:
            waiting, self._waiting = self._waiting, 0
        if waiting:
            self._lost(_SPANS, waiting)
