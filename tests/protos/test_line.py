"""One event is one line, with all that is known of it, and nothing that it should not tell."""

from __future__ import annotations

import json
import logging
import sys
from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.trace import INVALID_SPAN_CONTEXT, SpanContext, TraceFlags

from protos.line import Line

TRACE, SPAN = 0x4BF92F3577B34DA6A3CE929D0E0E4736, 0x00F067AA0BA902B7
IN_A_TRACE = SpanContext(TRACE, SPAN, is_remote=False, trace_flags=TraceFlags(1))


@dataclass
class Call:
    request_id: str = ""
    span_context: SpanContext = INVALID_SPAN_CONTEXT


def record(message: object, *args: object, error: BaseException | None = None, level: int = logging.INFO) -> Any:
    raised = (type(error), error, error.__traceback__) if error else None
    return logging.LogRecord("headrace.test", level, "x.py", 1, message, args, raised)


def line(message: object, *args: object, call: Call | None = None, error: BaseException | None = None) -> Line:
    return Line.of(record(message, *args, error=error), call, "headrace-test")


def fail(words: str) -> None:
    raise ValueError(words)


def raised(words: str) -> ValueError:
    try:
        fail(words)
    except ValueError as error:
        return error
    raise AssertionError


def test_its_fields() -> None:
    made = record("model %s is loaded", "digits", level=logging.WARNING)
    made.created, made.process = 1_700_000_000.5, 7
    told = json.loads(Line.of(made, Call("abc", IN_A_TRACE), "headrace-test").as_json())
    assert list(told.items()) == [
        ("time", "2023-11-14T22:13:20.500Z"),
        ("severity", "WARNING"),
        ("logger", "headrace.test"),
        ("message", "model digits is loaded"),
        ("service", "headrace-test"),
        ("pid", 7),
        ("headrace.request.id", "abc"),
        ("trace_id", "4bf92f3577b34da6a3ce929d0e0e4736"),
        ("span_id", "00f067aa0ba902b7"),
    ]


def test_what_there_is_not_has_no_field() -> None:
    for call in (None, Call()):
        assert set(json.loads(line("x", call=call).as_json())) == {
            "time",
            "severity",
            "logger",
            "message",
            "service",
            "pid",
        }


def test_an_exception_has_its_own_fields() -> None:
    told = json.loads(line("it failed", error=raised("of this")).as_json())
    assert (told["message"], told["exception.type"], told["exception.message"]) == (
        "it failed",
        "ValueError",
        "of this",
    )
    assert told["exception.stacktrace"].startswith("Traceback (most recent call last):\n")
    assert told["exception.stacktrace"].endswith("ValueError: of this\n")


@given(st.text(), st.text(), st.text())
def test_nothing_makes_a_second_line(message: str, words: str, request_id: str) -> None:
    made = line("%s", message, call=Call(request_id), error=raised(words))
    as_json = made.as_json()
    assert as_json.isascii()
    assert as_json.isprintable()
    assert json.loads(as_json)["message"] is not None
    for coloured in (False, True):
        first, *rest = made.as_text(coloured=coloured).splitlines()
        assert "headrace.test" in first
        assert all(one.startswith("    ") for one in rest)
        assert all(one.isprintable() or not one.isascii() for one in rest)


@pytest.mark.parametrize("bad", ["\n", "\r", "\x1b[2J", "\x9b", "\x85", "\u2028", "\u202e", "\x00"])
def test_what_a_terminal_obeys_is_shown(bad: str) -> None:
    text = line(f"a{bad}2026-01-01T00:00:00.000Z ERROR 1 headrace forged", error=raised(f"b{bad}c")).as_text(
        coloured=False
    )
    assert bad not in text.partition("\n")[0]
    assert bad == "\n" or bad not in text
    assert not [one for one in text.splitlines() if one.startswith("2026-01-01")]


def test_text_for_people_has_the_ids_at_its_end() -> None:
    made = record("refused")
    made.created, made.process = 1_700_000_000.5, 7
    told = Line.of(made, Call("abc", IN_A_TRACE), "s")
    ids = "(request abc, trace 4bf92f3577b34da6a3ce929d0e0e4736)"
    assert told.as_text(coloured=False) == f"2023-11-14T22:13:20.500Z INFO 7 headrace.test refused {ids}"
    assert "\x1b[32mINFO\x1b[0m" in told.as_text(coloured=True)


SECRET = "eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiJhbGljZSJ9.c2lnbmF0dXJl"


def test_no_secret_is_in_any_part_of_it() -> None:
    try:
        try:
            fail(f"authorization: Bearer {SECRET}")
        except ValueError as cause:
            raise RuntimeError(f"https://user:{SECRET}@host/?{SECRET}") from cause
    except RuntimeError as error:
        made = line("%r with %s", {"authorization": SECRET}, SECRET.encode(), error=error, call=Call(SECRET))
    assert "signature" not in SECRET
    for told in (made.as_json(), made.as_text(coloured=False), repr(made)):
        assert not [part for part in SECRET.split(".") if part in told]
        assert "RuntimeError" in told


def test_one_that_cannot_be_written_is_told_all_the_same() -> None:
    class BadError(Exception):
        def __str__(self) -> str:
            raise ZeroDivisionError

    told = json.loads(line("%d of %s", "x", error=BadError()).as_json())
    assert told["message"] == "%d of %s (what belongs into it cannot be written)"
    assert told["exception.type"].endswith("BadError")


def test_a_long_one_keeps_its_ends() -> None:
    told = json.loads(line("begin " + "x" * 1_000_000 + " end").as_json())["message"]
    assert told.startswith("begin x")
    assert len(told) < 9000
    shorter = json.loads(line("begin " + "x" * 100_000 + " end").as_json())["message"]
    assert shorter.endswith("x end")


def test_what_no_encoding_has_does_no_harm() -> None:
    told = line("\ud800 of %s", b"\xff".decode(errors="surrogateescape"))
    assert told.message == "\\ud800 of \\udcff"
    assert sys.getsizeof(told.as_json().encode())
