"""How spans and log lines leave by OTLP. Law: a slow or dead collector costs no call, little memory, and is counted.

They wait in a queue of bounded length for a thread of the SDK's, which sends them in batches. What finds no room, and
what the collector does not take, is counted (`protos.dropped`); so is what is left when the time at the end is over,
for then the exporter takes nothing any more.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from threading import Lock, Timer
from typing import Final, TypeVar

from opentelemetry.sdk._logs import ReadableLogRecord, ReadWriteLogRecord
from opentelemetry.sdk._logs.export import BatchLogRecordProcessor, LogRecordExporter, LogRecordExportResult
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.trace import SpanContext, TraceFlags

from protos import dropped
from protos.complaints import Complaints
from protos.dropped import Signal

log = logging.getLogger("headrace.telemetry")

T = TypeVar("T")
R = TypeVar("R")

_SAMPLED: Final = SpanContext(1, 1, is_remote=False, trace_flags=TraceFlags(TraceFlags.SAMPLED))
_MOST: Final = 2048  # that wait
_DELAY: Final = 500  # milliseconds
_TOGETHER: Final = 512


class _Waiting:
    """How many there are on their way to the collector; never more than the SDK's queue has room for."""

    def __init__(self, signal: Signal) -> None:
        self._signal = signal
        self._lock = Lock()
        self._count = 0

    def enters(self) -> bool:
        """Whether there is room for one more, which then waits; else it is lost."""
        with self._lock:
            if room := self._count < _MOST:
                self._count += 1
        if not room:
            dropped.add(self._signal)
        return room

    def handed(self, batch: Sequence[T], export: Callable[[Sequence[T]], R], success: R) -> R:
        """Have the batch exported; unless with success, the collector has not taken it."""
        with self._lock:
            self._count -= len(batch)
        taken = False
        try:
            result = export(batch)
            taken = result is success
            return result
        finally:
            if not taken:
                dropped.add(self._signal, len(batch))


class _Later(ReadableSpan):
    """Stands for a span that is made when its turn comes; the SDK's queue asks whether it is sampled."""

    def __init__(self, make: Callable[[], ReadableSpan]) -> None:
        self.make = make

    @property
    def context(self) -> SpanContext:
        return _SAMPLED


class _SpanExporter(SpanExporter):
    def __init__(self, exporter: SpanExporter, waiting: _Waiting) -> None:
        self._exporter = exporter
        self._waiting = waiting
        self._complaints = Complaints(log, time.monotonic)

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        return self._waiting.handed(spans, self._made, SpanExportResult.SUCCESS)

    def shutdown(self) -> None:
        self._exporter.shutdown()

    def _made(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        return self._exporter.export([made for span in spans if (made := self._span(span)) is not None])

    def _span(self, span: ReadableSpan) -> ReadableSpan | None:
        try:
            return span.make() if isinstance(span, _Later) else span
        except Exception as error:  # noqa: BLE001 - whatever it is, the others are sent
            dropped.add(Signal.SPANS)
            self._complaints.warn("made", "a span cannot be made", exc_info=error)
            return None


class Spans(BatchSpanProcessor):
    """Of spans; at its end it sends what is left, for `last_words` seconds at most (the SDK's own: 30)."""

    def __init__(self, exporter: SpanExporter, last_words: float) -> None:
        self._waiting = _Waiting(Signal.SPANS)
        self._impatient = _impatient(exporter.shutdown, last_words)
        counted = _SpanExporter(exporter, self._waiting)
        super().__init__(counted, _MOST, schedule_delay_millis=_DELAY, max_export_batch_size=_TOGETHER)

    def on_end(self, span: ReadableSpan) -> None:
        """Have it sent; of spans that are not sampled the SDK takes none."""
        if span.context and span.context.trace_flags.sampled and self._waiting.enters():
            super().on_end(span)

    def send(self, make: Callable[[], ReadableSpan]) -> None:
        """Have a span sent, which is sampled, and is made by the thread that sends it."""
        self.on_end(_Later(make))

    def shutdown(self) -> None:
        """Send what is left."""
        self._impatient(super().shutdown)


class _LineExporter(LogRecordExporter):
    def __init__(self, exporter: LogRecordExporter, waiting: _Waiting) -> None:
        self._exporter = exporter
        self._waiting = waiting

    def export(self, batch: Sequence[ReadableLogRecord]) -> LogRecordExportResult:
        return self._waiting.handed(batch, self._exporter.export, LogRecordExportResult.SUCCESS)

    def shutdown(self) -> None:
        self._exporter.shutdown()  # type: ignore[no-untyped-call]  # the SDK gives it no return type

    def force_flush(self, timeout_millis: int = 30000) -> bool:
        return self._exporter.force_flush(timeout_millis)


class Lines(BatchLogRecordProcessor):
    """Of log lines; as spans."""

    def __init__(self, exporter: LogRecordExporter, last_words: float) -> None:
        self._waiting = _Waiting(Signal.LOGS)
        self._impatient = _impatient(exporter.shutdown, last_words)
        super().__init__(_LineExporter(exporter, self._waiting), _DELAY, _TOGETHER, None, _MOST)

    def on_emit(self, log_record: ReadWriteLogRecord) -> None:
        """Have it sent."""
        if self._waiting.enters():
            super().on_emit(log_record)

    def shutdown(self) -> None:
        """Send what is left."""
        self._impatient(super().shutdown)


def _impatient(give_up: Callable[[], None], seconds: float) -> Callable[[Callable[[], None]], None]:
    """Do a thing that ends early when the exporter is shut down: with the export that runs, and all after it."""

    def do(thing: Callable[[], None]) -> None:
        impatience = Timer(seconds, give_up)
        impatience.start()
        try:
            thing()
        finally:
            impatience.cancel()

    return do
