"""How it looks: at 80 and at 200 columns, on 24 lines, in colour and in ASCII."""

from __future__ import annotations

import io
from collections.abc import Mapping

import pytest
from rich.console import Console
from rich.text import Text

from headrace.top.rates import Row, View
from headrace.top.read import Admission
from headrace.top.shown import percent, seconds, shown, waiting

ROWS = (
    Row("digits", "1", 930.4, 1.0, 0.0018, 0.0421, {}, 3, 2, 1, 2.5, ("rq_open",), 0.903, 0.968),
    Row("digits", "2", 100.0, 0.9, 0.0038, 0.005, {"UNAVAILABLE": 10.0}, 1, 1, share=0.097, express=0.968),
    Row("digits", "", 20.0, 0.0, None, None, {"RESOURCE_EXHAUSTED": 20.0}, None, None, express=0.968),
    Row("a-model-with-quite-a-long-name", "1", 0.02, 1.0, 30.0, 30.0, {}, None, None, share=1.0, express=0.0),
    Row("idle", "12", 0, None, None, None, {}, 1, 1),
)


def made(rows: tuple[Row, ...] = ROWS, **more: object) -> View:
    told = {
        "active": {"express": 9.0, "python": 3.0},
        "refused": {"RATE_LIMITED": 20.0, "MODEL_NOT_READY": 10.0},
        "admission": {"digits": Admission(41, 64)},
    }
    return View(1.0, 1050.4, 0.971, 0.0019, 0.0415, rows=rows, **{**told, **more})


def drawn(view: View, width: int, height: int | None = None, **how: object) -> str:
    console = Console(width=width, file=io.StringIO(), **{"color_system": None, **how})
    console.print(shown(view, Text("headrace top  http://127.0.0.1:9090  12:00:00"), console.options, height))
    return "\n".join(line.rstrip() for line in console.file.getvalue().splitlines())


NARROW = """\
headrace top  http://127.0.0.1:9090  12:00:00
1050 calls/s   97.1 % ok   p50 1.9 ms   p99 42 ms   12 in flight

model                 version  calls/s   share      ok     p50     p99  copies
digits                1          930.4  90.3 %   100 %  1.8 ms   42 ms  2 of 3
                      2          100.0   9.7 %  90.0 %  3.8 ms  5.0 ms  1
                      -           20.0       -     0 %       -       -  -
a-model-with-quite-…  1           <0.1   100 %   100 %   >30 s   >30 s  -
idle                  12             0       -       -       -       -  1

refused: RATE_LIMITED 20.0/s, MODEL_NOT_READY 10.0/s
running: digits 41 of 64
digits 1: 1 ejected, over the breaker 2.5/s, breaker open: requests
digits 2: UNAVAILABLE 10.0/s"""

WIDE = """\
headrace top  http://127.0.0.1:9090  12:00:00
1050 calls/s   97.1 % ok   p50 1.9 ms   p99 42 ms   12 in flight: 9 express, 3 python

model                           version  calls/s   share                  ok     p50     p99  copies  express  running
digits                          1          930.4  90.3 %  █████████    100 %  1.8 ms   42 ms  2 of 3   96.8 %  41 of 64
                                2          100.0   9.7 %  █           90.0 %  3.8 ms  5.0 ms  1
                                -           20.0       -                 0 %       -       -  -
a-model-with-quite-a-long-name  1           <0.1   100 %  ██████████   100 %   >30 s   >30 s  -           0 %
idle                            12             0       -                   -       -       -  1             -

refused: RATE_LIMITED 20.0/s, MODEL_NOT_READY 10.0/s
digits 1: 1 ejected, over the breaker 2.5/s, breaker open: requests
digits 2: UNAVAILABLE 10.0/s"""


@pytest.mark.parametrize(("width", "wanted"), [(80, NARROW), (200, WIDE)])
def test_it_looks_like_this(width: int, wanted: str) -> None:
    assert drawn(made(), width) == wanted


@pytest.mark.parametrize("width", [80, 104, 200])
def test_no_line_is_too_long_however_large_the_numbers(width: int) -> None:
    row = Row("m" * 90, "1234567", 123456.0, 0.999, 0.99, 29.0, {"UNAVAILABLE": 1e5}, 128, 100, share=0.5, express=0.5)
    told = drawn(made((row,) * 3, refused={f"REASON_{n}": 1e5 for n in range(20)}), width)
    assert all(len(line) <= width for line in told.splitlines())
    assert "99.9 %" in told and "100 of 128" in told and "123456" in told
    assert ("mmmm…" in told) == (width < 200)
    assert all(f"REASON_{n} 100000/s" in told for n in range(20))


def many(number: int) -> tuple[Row, ...]:
    return tuple(Row(f"m{n:03}", "1", 10.0, 1.0, 0.01, 0.02, {"UNKNOWN": 1.0}, 1, 1) for n in range(number))


@pytest.mark.parametrize("height", [10, 12, 23, 50])
@pytest.mark.parametrize("number", [1, 5, 12, 100])
def test_it_fits_and_what_does_not_is_told(height: int, number: int) -> None:
    told = drawn(made(many(number)), 80, height).splitlines()
    assert len(told) <= height
    rows = [line for line in told if line.startswith("m") and "calls/s" not in line and ":" not in line]
    left_out = [line for line in told if line.startswith("and ") and "model" in line]
    assert rows[0].startswith("m000")
    if len(rows) < number:
        less = number - len(rows)
        of = f"{less} model{'s' * (less > 1)}"
        assert left_out == [
            f"and {less} more line{'s' * (less > 1)}, of {of}: {10.0 * less:.{0 if less > 99 else 1}f} calls/s"
        ]
    notes = [line for line in told if line.startswith(("refused", "running")) or "UNKNOWN" in line]
    if len(notes) < number + 2:
        assert told[-1] == f"and {number + 2 - len(notes)} more lines"


TROUBLES: Mapping[str, tuple[dict[str, object], str]] = {
    "ready": ({"ready": False}, "the gateway is not ready"),
    "refused": ({"config_refused": True}, "the configuration as it is now is refused"),
    "audit": ({"audit_failing": True}, "audit lines cannot be written"),
    "lost": ({"lost": {"spans": 12.0}}, "lost telemetry: spans 12.0/s"),
    "silent": ({"silent": ("the Envoy at 127.0.0.1:1 does not answer",)}, "the Envoy at 127.0.0.1:1 does not answer"),
}


@pytest.mark.parametrize("name", TROUBLES)
def test_what_needs_eyes_comes_first(name: str) -> None:
    more, words = TROUBLES[name]
    assert words not in drawn(made(), 80)
    told = drawn(made(many(50), **more), 80, 23).splitlines()
    assert told[told.index("") + 1 :][-5].startswith(words)


@pytest.mark.parametrize(
    ("row", "words"),
    [
        (Row("m", "1", 0, None, None, None, {}, 0, 0), "m 1: no copies"),
        (Row("m", "1", 0, None, None, None, {}, 3, 1), "m 1: 2 not ready"),
        (
            Row("m", "1", 0, None, None, None, {}, 3, 3, open=("cx_open", "rq_retry_open")),
            "breaker open: connections, ret",
        ),
    ],
)
def test_copies_and_breakers(row: Row, words: str) -> None:
    assert words in drawn(made((row,)), 80)


def test_colour_is_for_what_needs_eyes_and_can_be_had_without() -> None:
    console = {"force_terminal": True, "color_system": "standard"}
    told = drawn(made(), 80, **console)
    assert "\x1b[1;31m2 of 3\x1b[0m" in told
    assert "\x1b[3" not in drawn(made(), 80, **console, no_color=True).replace("\x1b[3m", "")


def test_a_terminal_without_unicode_gets_none() -> None:
    console = Console(width=200, file=io.TextIOWrapper(io.BytesIO(), "ascii"), color_system=None)
    console.print(shown(made(), Text("top"), console.options))
    console.file.flush()
    assert b"#########" in console.file.buffer.getvalue()


def test_names_end_where_there_is_no_room_for_a_line() -> None:
    told = drawn(made(), 80, 8)
    assert len(told.splitlines()) <= 8


@pytest.mark.parametrize(
    ("value", "wanted"),
    [(None, "-"), (0, "0 %"), (0.00001, "0.1 %"), (0.5, "50.0 %"), (0.99999, "99.9 %"), (1, "100 %")],
)
def test_nearly_all_is_not_all(value: float | None, wanted: str) -> None:
    assert percent(value) == wanted


@pytest.mark.parametrize(
    ("value", "wanted"),
    [
        (None, "-"),
        (0.000_12, "0.12 ms"),
        (0.004_2, "4.2 ms"),
        (0.042, "42 ms"),
        (0.42, "420 ms"),
        (4.2, "4.2 s"),
        (30, ">30 s"),
    ],
)
def test_times(value: float | None, wanted: str) -> None:
    assert seconds(value) == wanted


def test_what_is_waited_for_is_said() -> None:
    console = Console(width=80, file=io.StringIO())
    console.print(
        waiting("http://127.0.0.1:9090", "http://127.0.0.1:9090 does not answer: Connection refused; waiting")
    )
    assert console.file.getvalue() == (
        "headrace top  http://127.0.0.1:9090\nhttp://127.0.0.1:9090 does not answer: Connection refused; waiting\n"
    )
