"""One trace as a waterfall. Law: a bar's place and length are the span's share of the whole trace, and nothing else.

A bar begins at a whole cell and ends at an eighth of one, where the terminal can.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from rich.console import Console, ConsoleOptions, RenderResult
from rich.text import Text

from headrace import chart
from headrace.demo.spans import Span, Value, tree
from protos import tracing

_NAMED: Final[Mapping[str, str]] = {
    tracing.LANE: "lane",
    tracing.CALLER: "caller",
    tracing.VERSION_ASKED: "asked for",
    tracing.VERSION_SERVED: "served",
    tracing.BATCH_SIZE: "batched with",
    tracing.QUEUE_TIME: "queued",
}
_GAP: Final = "  "
_MS: Final = 8  # cells for the duration
_WIDEST: Final = 64


class Waterfall:
    """A rich renderable of the spans of one trace, the bars as wide as there is room."""

    def __init__(self, spans: Sequence[Span]) -> None:
        self._spans = spans

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """A line for each span, and below it one for what it says."""
        ascii_only = chart.plain(options)
        rows = [(depth, span, _branch(depth, ascii_only=ascii_only)) for depth, span in tree(self._spans)]
        widest = max(len(branch) + len(span.service) + 1 + len(span.kind) for _, span, branch in rows)
        cells = min(_WIDEST, max(8, options.max_width - widest - 2 * len(_GAP) - _MS))
        begin = min(span.start for span in self._spans)
        whole = max(span.end for span in self._spans) - begin
        for depth, span, branch in rows:
            title = Text.assemble((branch, "dim"), (span.service, "bold"), " ", span.kind)
            title.pad_right(widest - len(title))
            marks = bar(span.start - begin, span.end - begin, whole, cells, ascii_only=ascii_only)
            ms = f"{(span.end - span.start) / 1e6:.2f} ms".rjust(_MS)
            yield _line(title, _GAP, (marks.ljust(cells), "cyan"), _GAP, ms)
            if said := notes(span.attributes):
                yield _line(("  " * depth + "  " + said, "dim"))


def _branch(depth: int, *, ascii_only: bool) -> str:
    return "" if depth == 0 else "  " * (depth - 1) + ("`-" if ascii_only else "└─")


def _line(*parts: str | Text | tuple[str, str]) -> Text:
    return Text.assemble(*parts, no_wrap=True, overflow="ellipsis")


def bar(start: int, end: int, whole: int, cells: int, *, ascii_only: bool) -> str:
    """The bar of a span from `start` to `end` in a trace of `whole` (all one unit), in at most `cells` cells."""
    if whole <= 0:
        return chart.bar(8 * cells, ascii_only=ascii_only)
    first, last = 8 * cells * start // whole, -(-8 * cells * end // whole)
    blank = min(first // 8, cells - 1)
    return " " * blank + chart.bar(max(1, min(8 * cells, last) - 8 * blank), ascii_only=ascii_only)


def notes(attributes: Mapping[str, Value]) -> str:
    """What the span says of the call, in the order a reader asks; every call of the demo is of one picture."""
    said = ((word, _value(key, attributes.get(key, ""))) for key, word in _NAMED.items())
    return ", ".join(f"{word} {value}" for word, value in said if value)


def _value(key: str, value: Value) -> str:
    if key == tracing.QUEUE_TIME and isinstance(value, int | float):
        return f"{value * 1000:.2f} ms"
    if key == tracing.BATCH_SIZE and isinstance(value, int):
        return _others(value - 1)
    return str(value)


def _others(calls: int) -> str:
    """Empty where the call went alone."""
    if calls < 2:
        return "another call" if calls == 1 else ""
    return f"{calls} other calls"
