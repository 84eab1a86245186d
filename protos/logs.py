"""Where log lines go. Law: nothing that logs ever waits for whoever reads the log.

A thread writes to standard error, JSON or, for people, text; and hands on by OTLP. What it cannot write in time is
dropped and counted, and the next line that gets through says how many were.
"""

from __future__ import annotations

import contextlib
import logging
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import Final

from protos import dropped, of_call
from protos.aside import Waiting, aside
from protos.complaints import Complaints
from protos.dropped import Signal
from protos.line import Line
from protos.log_settings import Form, Logs
from protos.otlp_logs import sending

_TELEMETRY: Final = "headrace.telemetry"  # what is said here does not leave by OTLP
_OURS: Final = logging.getLogger("headrace")
_SDK: Final = logging.getLogger("opentelemetry")


@contextlib.contextmanager
def written(logs: Logs, level: int = logging.INFO) -> Iterator[None]:
    """While inside, records of this level and above are written to standard error, and by OTLP."""
    # It logs metadata that it cannot read, tokens among them.
    logging.getLogger("grpc._cython.cygrpc").setLevel(logging.CRITICAL)
    with contextlib.ExitStack() as stack:
        stack.enter_context(_apart(_SDK))  # to the end of its last words
        sinks = [_to_stderr(sys.stderr.fileno(), _writer(logs.form, sys.stderr.isatty(), os.environ))]
        if logs.otlp is not None:
            sinks.append(_unless_of_telemetry(stack.enter_context(sending(logs.service, logs.otlp))))

        def take(line: Line) -> None:
            for sink in sinks:
                sink(line)

        # Not the library's listener: it would wait at the end for a reader that never reads.
        stack.enter_context(_heard(_Bounded(stack.enter_context(aside(take, "log")), logs.service), level))
        yield


class _Bounded(logging.Handler):
    """Makes lines and hands them to the thread; drops them, and counts, where too many wait."""

    def __init__(self, waiting: Waiting[Line], service: str) -> None:
        super().__init__()
        self._waiting = waiting
        self._service = service
        self._dropped = 0

    def emit(self, record: logging.LogRecord) -> None:
        """Never blocks, never raises."""
        line = Line.of(record, of_call.now(), self._service)
        if self._dropped:
            line = replace(line, message=f"{line.message} ({self._dropped} lines before this one are lost)")
        if self._waiting.put(line):
            self._dropped = 0
        else:
            self._dropped += 1
            dropped.add(Signal.LOGS)


class _Repeated(logging.Handler):
    """What the SDK says of a collector that is down, it says for every batch."""

    def __init__(self) -> None:
        super().__init__()
        self._complaints = Complaints(logging.getLogger(_TELEMETRY), time.monotonic, every=60.0)

    def emit(self, record: logging.LogRecord) -> None:
        """Say it once in a while; no call fails by it."""
        if record.levelno >= logging.WARNING:
            self._complaints.warn((record.name, record.msg), record.getMessage())


@contextlib.contextmanager
def _apart(logger: logging.Logger) -> Iterator[None]:
    """While inside, what the logger says goes to its own handlers alone, if there are any."""
    before, nowhere = logger.propagate, logging.NullHandler()
    logger.addHandler(nowhere)
    logger.propagate = False
    try:
        yield
    finally:
        logger.propagate = before
        logger.removeHandler(nowhere)


@contextlib.contextmanager
def _heard(handler: logging.Handler, level: int) -> Iterator[None]:
    """While inside, the handler gets all that is logged, warned of, or raised by a thread."""
    root, repeated = logging.getLogger(), _Repeated()
    before, hook = root.level, threading.excepthook

    def died(args: threading.ExceptHookArgs) -> None:
        if args.exc_value is not None:
            name = args.thread.name if args.thread else "unknown"
            _OURS.critical("the thread %s has died", name, exc_info=args.exc_value)

    root.addHandler(handler)
    root.setLevel(level)
    _SDK.addHandler(repeated)
    logging.captureWarnings(capture=True)
    threading.excepthook = died
    try:
        yield
    finally:
        threading.excepthook = hook
        logging.captureWarnings(capture=False)
        _SDK.removeHandler(repeated)
        root.removeHandler(handler)
        root.setLevel(before)


def _writer(form: Form, terminal: bool, environ: Mapping[str, str]) -> Callable[[Line], str]:  # noqa: FBT001 - as isatty says
    """How lines look there; https://no-color.org."""
    if form == "json" or (form == "auto" and not terminal):
        return Line.as_json
    coloured = terminal and not environ.get("NO_COLOR") and environ.get("TERM") != "dumb"
    return lambda line: line.as_text(coloured=coloured)


def _to_stderr(stderr: int, written: Callable[[Line], str]) -> Callable[[Line], None]:
    def write(line: Line) -> None:
        # Not through a stream or a handler: a write that hangs would hold their locks, which the end of Python takes.
        text = f"{written(line)}\n".encode(errors="backslashreplace")
        try:
            os.write(stderr, text)
        except OSError:
            dropped.add(Signal.LOGS)

    return write


def _unless_of_telemetry(send: Callable[[Line], None]) -> Callable[[Line], None]:
    """That lines do not reach the collector is not for the collector."""
    return lambda line: None if line.logger.startswith(_TELEMETRY) else send(line)
