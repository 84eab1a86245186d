from __future__ import annotations

import io

import pytest
from rich.console import Console

from headrace.demo.spans import Span
from headrace.demo.waterfall import Waterfall, bar, notes
from protos import tracing

MS = 1_000_000
BEGIN = 1_700_000_000_000_000_000
SPANS = (
    Span("t", "w", "c", "worker-2", "rpc", "server", BEGIN + 4 * MS, BEGIN + 7 * MS, {tracing.BATCH_SIZE: 8}),
    Span("t", "g", "r", "headrace-gateway", "rpc", "server", BEGIN + 1 * MS, BEGIN + 9 * MS, {tracing.CALLER: "demo"}),
    Span("t", "r", "", "headrace-demo", "rpc", "client", BEGIN, BEGIN + 10 * MS),
    Span("t", "c", "g", "headrace-gateway", "rpc", "client", BEGIN + 2 * MS, BEGIN + 8 * MS),
)


def drawn(width: int, encoding: str = "utf-8", spans: tuple[Span, ...] = SPANS) -> list[str]:
    raw = io.BytesIO()
    file = io.TextIOWrapper(raw, encoding=encoding, write_through=True)
    Console(file=file, width=width, highlight=False).print(Waterfall(spans))
    return raw.getvalue().decode(encoding).splitlines()


@pytest.mark.parametrize("width", [80, 120])
def test_a_call_reads_from_the_caller_to_the_worker(width: int) -> None:
    lines = drawn(width)
    assert all(len(line) <= width for line in lines)
    spans = [line for line in lines if "█" in line]
    assert [line.split("█")[0].strip() for line in spans] == [
        "headrace-demo client",
        "└─headrace-gateway server",
        "└─headrace-gateway client",
        "└─worker-2 server",
    ]
    assert [line.split()[-2] for line in spans] == ["10.00", "8.00", "6.00", "3.00"]
    indents = [line.index("headrace" if "headrace" in line else "worker") for line in spans]
    assert indents == sorted(set(indents))


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
    assert "caller demo" in lines[2]
    assert "batched with 7 other calls" in lines[5]


def test_a_span_without_its_parent_is_shown_still() -> None:
    assert any("worker-2" in line for line in drawn(80, spans=SPANS[:1]))


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


@pytest.mark.parametrize(
    ("pictures", "said"), [(1, ""), (2, "batched with another call"), (3, "batched with 2 other calls")]
)
def test_a_batch_is_told_by_who_else_is_in_it(pictures: int, said: str) -> None:
    assert notes({tracing.BATCH_SIZE: pictures}) == said


def test_notes_are_in_a_readers_order_and_units() -> None:
    said = notes(
        {
            tracing.QUEUE_TIME: 0.00123,
            tracing.BATCH_SIZE: 4,
            tracing.VERSION_ASKED: "canary",
            tracing.VERSION_SERVED: "2",
            tracing.CALLER: "",
            "other": 1,
        }
    )
    assert said == "asked for canary, served 2, batched with 3 other calls, queued 1.23 ms"
