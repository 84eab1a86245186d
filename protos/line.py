"""One line of the log. Law: it is one event, and one line; no secret is in it, for it is made in one way alone.

Fields are named as in docs/logs.md: a trace's as OpenTelemetry has them in formats that are not its own
(https://opentelemetry.io/docs/specs/otel/compatibility/logging_trace_context/), an exception's as its conventions do.
"""

from __future__ import annotations

import json
import logging
import os
import traceback
from dataclasses import dataclass
from typing import Final

from opentelemetry.trace import SpanContext, format_span_id, format_trace_id

from protos import rfc3339, tracing
from protos.of_call import OfCall
from protos.redacted import redacted

_LOOKED_AT: Final = 256 * 1024  # characters of a text, of which a line keeps less
_LONGEST: Final = 8 * 1024
_LONGEST_STACK: Final = 16 * 1024
# What ends a line or moves a cursor: C0, C1, the separators of lines, and what turns the direction of writing.
_OBEYED: Final = (*range(0x20), *range(0x7F, 0xA0), 0x2028, 0x2029, *range(0x202A, 0x202F), *range(0x2066, 0x206A))
_SHOWN: Final = {code: chr(code).encode("unicode_escape").decode() for code in _OBEYED}
_SHOWN_IN_A_STACK: Final = {code: shown for code, shown in _SHOWN.items() if chr(code) != "\n"}
_DIM: Final = "\x1b[2m"
_PLAIN: Final = "\x1b[0m"
_COLOURS: Final = {"INFO": "\x1b[32m", "WARNING": "\x1b[33m", "ERROR": "\x1b[31m", "CRITICAL": "\x1b[1;31m"}


@dataclass(frozen=True, slots=True)
class Line:
    """An event: when (nanoseconds since the epoch), how bad, who says what, and of which call; its texts redacted.

    `trace` is None where there is none. Of what was raised: the type's name, the words and the traceback, or empty.
    """

    at: int
    level: int
    severity: str
    logger: str
    message: str
    service: str
    pid: int
    request_id: str = ""
    trace: SpanContext | None = None
    raised: str = ""
    words: str = ""
    stack: str = ""

    @classmethod
    def of(cls, record: logging.LogRecord, call: OfCall | None, service: str) -> Line:
        """The line for what was logged; nothing of it makes this raise."""
        raised = record.exc_info[1] if record.exc_info else None
        context = call.span_context if call else None
        return cls(
            at=int(record.created * 1e9),
            level=record.levelno,
            severity=record.levelname,
            logger=record.name,
            message=_safe(_message(record), _LONGEST),
            service=service,
            pid=record.process or os.getpid(),
            request_id=_safe(call.request_id, tracing.LONGEST) if call else "",
            trace=context if context and context.is_valid else None,
            raised=type(raised).__qualname__ if raised else "",
            words=_safe(_words(raised), _LONGEST) if raised else "",
            stack=_safe(_stack(raised), _LONGEST_STACK) if raised else "",
        )

    @property
    def fields(self) -> dict[str, str | int]:
        """All that is told beside when, how bad, by whom and the message."""
        told = {
            tracing.REQUEST_ID: self.request_id,
            tracing.TRACE_ID: format_trace_id(self.trace.trace_id) if self.trace else "",
            tracing.SPAN_ID: format_span_id(self.trace.span_id) if self.trace else "",
            tracing.EXCEPTION_TYPE: self.raised,
            tracing.EXCEPTION_MESSAGE: self.words,
            tracing.EXCEPTION_STACK: self.stack,
        }
        return {name: value for name, value in told.items() if value}

    def as_json(self) -> str:
        """JSON, in plain ASCII: nothing in it ends a line."""
        head = {
            tracing.TIME: rfc3339.written(self.at),
            tracing.SEVERITY: self.severity,
            tracing.LOGGER: self.logger,
            tracing.MESSAGE: self.message,
            tracing.SERVICE: self.service,
            tracing.PID: self.pid,
        }
        return json.dumps(head | self.fields, separators=(",", ":"))

    def as_text(self, *, coloured: bool) -> str:
        """For people; a traceback follows, indented, so that nothing in it looks like an event."""
        dim, plain, colour = (_DIM, _PLAIN, _COLOURS.get(self.severity, "")) if coloured else ("", "", "")
        said = self.message.translate(_SHOWN)
        fields = self.fields
        told = [f"{name} {str(fields[key]).translate(_SHOWN)}" for key, name in _IDS if key in fields]
        ids = f" {dim}({', '.join(told)}){plain}" if told else ""
        who = f"{dim}{self.pid} {self.logger.translate(_SHOWN)}{plain}"
        line = (
            f"{dim}{rfc3339.written(self.at)}{plain} {colour}{self.severity}{plain if colour else ''} {who} {said}{ids}"
        )
        stack = self.stack.translate(_SHOWN_IN_A_STACK).rstrip("\n")
        return "\n    ".join([line, *stack.split("\n")]) if stack else line


_IDS: Final = ((tracing.REQUEST_ID, "request"), (tracing.TRACE_ID, "trace"))


def _message(record: logging.LogRecord) -> str:
    try:
        return record.getMessage()
    except Exception:  # noqa: BLE001 - whatever the arguments do when they are written, the event is told
        return f"{record.msg} (what belongs into it cannot be written)"


def _words(raised: BaseException) -> str:
    try:
        return str(raised)
    except Exception:  # noqa: BLE001 - as above
        return "it cannot be written"


def _stack(raised: BaseException) -> str:
    try:
        return "".join(traceback.format_exception(raised))
    except Exception:  # noqa: BLE001 - as above
        return ""


def _safe(text: str, longest: int) -> str:
    """Redacted first, so that no half of a secret is left; then of that length at most, and what can be encoded."""
    text = redacted(text[:_LOOKED_AT])
    if len(text) > longest:
        half = longest // 2
        text = f"{text[:half]} ... {text[-half:]}"
    return text if text.isascii() else text.encode(errors="backslashreplace").decode()
