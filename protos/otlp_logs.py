"""Log lines by OTLP. Law: what leaves is the line that standard error gets, field for field.

In OpenTelemetry's data model for logs: the message is the body, the trace's context the record's own, the service and
process its resource's (https://opentelemetry.io/docs/specs/otel/logs/data-model/).
"""

from __future__ import annotations

import contextlib
import logging
import os
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Final

from opentelemetry._logs import LogRecord
from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.grpc._log_exporter import OTLPLogExporter
from opentelemetry.sdk._logs import LoggerProvider, ReadableLogRecord
from opentelemetry.sdk._logs._internal import std_to_otel
from opentelemetry.sdk._logs.export import LogRecordExporter, LogRecordExportResult
from opentelemetry.sdk.resources import Resource
from opentelemetry.trace import NonRecordingSpan, set_span_in_context

from protos import collector, tracing
from protos.batches import Lines
from protos.line import Line

log = logging.getLogger("headrace.telemetry")

_ASK_AGAIN: Final = 60.0  # seconds
_LAST_WORDS: Final = 1.0  # seconds in which what is left is sent when the process ends
_OF_THE_RECORD: Final = (tracing.TRACE_ID, tracing.SPAN_ID)


@contextlib.contextmanager
def sending(service: str, otlp: str) -> Iterator[Callable[[Line], None]]:
    """What sends a line to `otlp` (`http://HOST:PORT`) while inside; it never waits, and never raises."""
    provider = LoggerProvider(
        Resource.create({"service.name": service, "process.pid": os.getpid()}), shutdown_on_exit=False
    )
    exporter = OTLPLogExporter(**collector.options(otlp))
    provider.add_log_record_processor(Lines(_WhereTaken(exporter, otlp), _LAST_WORDS))
    try:
        yield lambda line: provider.get_logger(line.logger).emit(_record(line))
    finally:
        provider.shutdown()


class _WhereTaken(LogRecordExporter):
    """Sends to who takes lines; who does not is asked once in a while, and misses none."""

    def __init__(self, exporter: LogRecordExporter, otlp: str) -> None:
        self._exporter = exporter
        self._takes = collector.Takes(otlp, collector.LOGS, "log lines", log, time.monotonic, _ASK_AGAIN)

    def export(self, batch: Sequence[ReadableLogRecord]) -> LogRecordExportResult:
        """Send a batch, or let go of it."""
        return LogRecordExportResult.SUCCESS if self._takes.none() else self._exporter.export(batch)

    def shutdown(self) -> None:
        """End what is under way."""
        self._exporter.shutdown()  # type: ignore[no-untyped-call]  # the SDK gives it no return type

    def force_flush(self, timeout_millis: int = 30000) -> bool:
        """As the exporter does."""
        return self._exporter.force_flush(timeout_millis)


def _record(line: Line) -> LogRecord:
    return LogRecord(
        timestamp=line.at,
        observed_timestamp=line.at,
        context=set_span_in_context(NonRecordingSpan(line.trace), Context()) if line.trace else Context(),
        severity_text=line.severity,
        severity_number=std_to_otel(line.level),
        body=line.message,
        attributes={name: value for name, value in line.fields.items() if name not in _OF_THE_RECORD},
    )
