"""A trace as it is drawn, wide and narrow, in colours and without."""

from __future__ import annotations

import io
import re

import pytest
from rich.console import Console

from headrace.traces.listing import listing
from headrace.traces.spans import Event, Span
from headrace.traces.summary import summary
from headrace.traces.waterfall import Waterfall, bar
from protos import tracing
from tests.headrace.traces.some import BEGIN, MS, TRACE, span

OK = {tracing.RPC_STATUS: "OK"}
SPANS = (
    span("44", "33", 4, 7, service="worker-2", attributes={**OK, tracing.BATCH_SIZE: 8}),
    span("22", "11", 1, 9, attributes={**OK, tracing.CALLER: "demo", tracing.REQUEST_ID: "a-request"}),
    span("11", "", 0, 10, service="headrace-demo", kind="client"),
    span("33", "22", 2, 8, kind="client", attributes=OK),
)
REFUSED = (span("11", attributes={tracing.RPC_STATUS: "PERMISSION_DENIED"}, error=True, description="no grant at all"),)


def drawn(width: int, encoding: str = "utf-8", spans: tuple[Span, ...] = SPANS) -> list[str]:
    return on(Console(file=io.TextIOWrapper(io.BytesIO(), encoding=encoding, write_through=True), width=width), spans)


def on(console: Console, spans: tuple[Span, ...]) -> list[str]:
    assert isinstance(console.file, io.TextIOWrapper)
    console.print(Waterfall(spans), highlight=False)
    raw = console.file.buffer
    assert isinstance(raw, io.BytesIO)
    return raw.getvalue().decode(console.encoding).splitlines()


@pytest.mark.parametrize("width", [40, 80, 120, 200])
def test_a_call_reads_from_the_caller_to_the_worker(width: int) -> None:
    lines = drawn(width)
    assert all(len(line) <= width for line in lines)
    spans = [line for line in lines if "█" in line]
    whose = [line.split("█")[0].strip().rstrip("…") for line in spans]
    full = ["headrace-demo client", "└─headrace-gateway server", "└─headrace-gateway client", "└─worker-2 server"]
    assert all(one.startswith(shown) and len(shown) > 9 for one, shown in zip(full, whose, strict=True))
    if width >= 80:
        assert whose == full
        assert [re.findall(r"([\d.]+) ms", line) for line in spans] == [["10.00"], ["8.00"], ["6.00"], ["3.00"]]
        assert [line.split()[-1] for line in spans] == ["ms", "OK", "OK", "OK"]
    indents = [line.index("headrace" if "headrace" in line else "worker") for line in spans]
    assert indents == sorted(set(indents))


def test_the_head_says_which_trace_it_is() -> None:
    first, second, third, *_ = drawn(80)
    assert (first, third) == (f"trace {TRACE}  ModelInfer  OK", "request a-request")
    assert re.fullmatch(r"2023-11-1\d \d\d:\d\d:\d\d\.000, 10\.00 ms, 4 spans", second)
    assert drawn(80, spans=REFUSED)[0] == f"trace {TRACE}  ModelInfer  PERMISSION_DENIED"


def test_a_bar_is_where_its_span_is() -> None:
    lines = [line for line in drawn(120) if "█" in line]
    starts = [line.index("█") for line in lines]
    assert starts == sorted(set(starts))
    lengths = [line.count("█") for line in lines]
    assert lengths == sorted(set(lengths), reverse=True)


def test_a_terminal_without_unicode_gets_ascii() -> None:
    lines = drawn(80, "ascii")
    assert "?" not in "".join(lines)
    assert sum("##" in line for line in lines) == 4


def test_what_a_span_says_stands_below_it() -> None:
    lines = drawn(80)
    assert lines[5] == "    caller demo"
    assert lines[8] == "        batch of 8"


def test_what_is_long_goes_on_below_itself() -> None:
    lines = drawn(60, spans=(span("11", attributes={tracing.CALLER: "me " + "x" * 100, tracing.REASON: "R"}),))
    assert all(len(line) <= 60 for line in lines)
    assert "".join(line.strip() for line in lines[3:]).replace(" ", "") == "callerme" + "x" * 100 + ",reasonR"
    assert all(line.startswith("  ") for line in lines[3:])


def test_a_refusal_says_why() -> None:
    assert drawn(80, spans=REFUSED)[2].endswith("PERMISSION_DENIED")
    assert drawn(80, spans=REFUSED)[3] == "  no grant at all"


@pytest.mark.parametrize(("encoding", "mark"), [("utf-8", "│"), ("ascii", "|")])
def test_an_event_is_marked_where_it_was(encoding: str, mark: str) -> None:
    one = span("11", start=0, end=100, events=(Event("verified", BEGIN + 50 * MS), Event("early", BEGIN - MS)))
    line = drawn(80, encoding, spans=(one,))[2]
    full = line.replace(mark, "#").replace("█", "#")
    first, last = full.index("#"), full.rindex("#")
    assert [at for at, cell in enumerate(line) if cell == mark] == [first + (last + 1 - first) // 2]
    tiny = span("22", "11", 50, 51, events=(Event("e", BEGIN + 50 * MS),))
    assert mark not in drawn(80, encoding, spans=(span("11", end=100), tiny))[3]


def test_services_have_colours_and_failures_theirs() -> None:
    file = io.TextIOWrapper(io.BytesIO(), encoding="utf-8", write_through=True)
    console = Console(file=file, width=100, force_terminal=True, color_system="standard", no_color=False)
    lines = on(console, (*SPANS, *REFUSED))
    assert sum("\x1b[1;36m" in line and "headrace-demo" in line for line in lines) == 1
    assert sum("\x1b[1;31mPERMISSION_DENIED" in line for line in lines) == 1


def test_however_deep_a_trace_it_fits() -> None:
    deep = tuple(span(f"{at:016x}", f"{at - 1:016x}" if at else "", at, 100 + at) for at in range(200))
    lines = drawn(80, spans=deep)
    assert len(lines) == 202
    assert all("headrace-gat" in line for line in lines[2:])
    assert all(len(line) <= 80 for line in lines)


def test_nothing_nasty_breaks_the_picture() -> None:
    nasty = "a\x1b[2J\n数字" * 30
    one = span("11", service=nasty, name=nasty, attributes={tracing.MODEL: nasty}, description=nasty, error=True)
    lines = drawn(80, spans=(one, *SPANS))
    assert "\x1b" not in "".join(lines)


def test_a_span_without_its_parent_is_shown_still() -> None:
    lines = drawn(80, spans=SPANS[:1])
    assert any("worker-2" in line for line in lines)
    assert any(f"its parent {'33' * 8} is not here" in line for line in lines)


@pytest.mark.parametrize(
    ("start", "end", "expected"),
    [
        (0, 100, "██████████"),
        (50, 100, "     █████"),
        (0, 1, "▏"),
        (99, 100, "         █"),
        (100, 100, "         █"),
        (20, 45, "  ██▌"),
        (0, 0, "▏"),
    ],
)
def test_bar(start: int, end: int, expected: str) -> None:
    assert bar(start, end, 100, 10, ascii_only=False) == expected


def test_bars_never_leave_their_column() -> None:
    for start in range(101):
        for end in range(start, 101):
            for ascii_only in (False, True):
                made = bar(start, end, 100, 7, ascii_only=ascii_only)
                assert 0 < len(made.strip()) <= len(made) <= 7


def test_a_trace_without_length_is_drawn() -> None:
    assert bar(0, 0, 0, 4, ascii_only=True) == "####"


@pytest.mark.parametrize("width", [60, 80, 200])
def test_a_list_fits_and_keeps_what_is_needed(width: int) -> None:
    console = Console(file=io.StringIO(), width=width)
    long = span(
        "11", name="a name that is rather long, is it not", attributes={tracing.MODEL: "m" * 50}, service="s" * 60
    )
    found = [summary(SPANS), summary(REFUSED), summary((long, span("22", "11", end=0, error=True)))]
    console.print(listing(found, console.options))
    assert isinstance(console.file, io.StringIO)
    lines = console.file.getvalue().splitlines()
    assert len(lines) == 4
    assert all(len(line.rstrip()) <= width for line in lines)
    assert all(TRACE[: 32 if width == 200 else 8] in line for line in lines[1:])
    assert "PERMISSION_DENIED" in lines[2]
    assert "1 failed" in lines[3]
    assert [line.rstrip().split("  ")[-1].strip() for line in lines[1:]] == ["10.00 ms", "1.00 ms", "1.00 ms"]
    assert ("headrace-demo, headrace-gateway, worker-2" in lines[1]) is (width == 200)
