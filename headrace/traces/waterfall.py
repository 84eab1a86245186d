"""One trace as a waterfall. Law: a bar's place and length are the span's share of the whole trace, and nothing else.

A bar begins at a whole cell and ends at an eighth of one, where the terminal can. A cell in which something happened is
marked.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Final

from rich.console import Console, ConsoleOptions, RenderResult
from rich.text import Text

from headrace import chart
from headrace.traces import told
from headrace.traces.attempts import numbered
from headrace.traces.spans import Span
from headrace.traces.summary import Summary, summary
from headrace.traces.tree import Place, tree

_GAP: Final = "  "
_TOOK: Final = 9  # cells for the duration
_WIDEST: Final = 100
_NARROWEST: Final = 8
_DEEPEST: Final = 12  # beyond it, spans stand below each other
_COLOURS: Final = ("cyan", "green", "magenta", "yellow", "blue", "bright_cyan", "bright_green", "bright_magenta")


class Waterfall:
    """A rich renderable of the spans of one trace, at least one, the bars as wide as there is room."""

    def __init__(self, spans: Sequence[Span]) -> None:
        self._spans = spans

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """What the trace is; then a line for each span, and below it what it says."""
        ascii_only, places, whole = chart.plain(options), numbered(tree(self._spans)), summary(self._spans)
        yield from _head(whole)
        colours = {service: _COLOURS[at % len(_COLOURS)] for at, service in enumerate(whole.services)}
        titles = [_title(places, at, colours, ascii_only=ascii_only) for at in range(len(places))]
        ends = max(len(told.status(place.span)) for place in places)
        room = max(_NARROWEST, options.max_width - 3 * len(_GAP) - _TOOK - ends)
        widest = min(max(title.cell_len for title in titles), max(16, room - room // 3))
        cells = max(_NARROWEST, min(_WIDEST, room - widest))
        for at, (place, title) in enumerate(zip(places, titles, strict=True)):
            title.truncate(widest, overflow="ellipsis", pad=True)
            drawn = _marked(place.span, whole, cells, ascii_only=ascii_only)
            blank = " " * (len(drawn) - len(drawn.lstrip()))
            marks = (drawn.lstrip().ljust(cells - len(blank)), colours[told.line(place.span.service)])
            took = told.took(place.span.end - place.span.start).rjust(_TOOK)
            ended = (told.status(place.span), "bold red" if place.span.error else "dim")
            line = Text.assemble(title, _GAP, blank, marks, _GAP, took)
            yield _one_line(line.append(_GAP).append(*ended))
            yield from _notes(console, options, places, at)


def _head(whole: Summary) -> Iterator[Text]:
    began = datetime.fromtimestamp(whole.began / 1e9).isoformat(" ", "milliseconds")
    spans = f"{whole.spans} span{'s' if whole.spans > 1 else ''}"
    status = (whole.status, "bold red" if whole.status not in ("", "OK") else "")
    yield _one_line(Text.assemble("trace ", (whole.trace, "bold"), "  ", whole.name, "  ", status))
    yield Text(f"{began}, {told.took(whole.duration)}, {spans}", "dim")
    if whole.requests:
        yield Text(f"request {', '.join(whole.requests[:3])}", "dim")


def _title(places: Sequence[Place], at: int, colours: Mapping[str, str], *, ascii_only: bool) -> Text:
    """Whose span it is; and what it does, where that is not what the one above does."""
    place = places[at]
    depth, service = min(place.depth, _DEEPEST), told.line(place.span.service)
    branch = "" if depth == 0 else "`-" if ascii_only else "└─"
    above = told.name(places[place.under if place.under >= 0 else 0].span)
    own = told.name(place.span)
    name = f" {own}" if own != above else ""
    indent = "  " * max(0, depth - 1)
    return Text.assemble(indent, (branch, "dim"), (f"{service} ", f"bold {colours[service]}"), place.span.kind, name)


def _notes(console: Console, options: ConsoleOptions, places: Sequence[Place], at: int) -> Iterator[Text]:
    place = places[at]
    said = Text(told.of_place(places, at), "dim")
    if place.span.description:
        said.append(", " if said else "").append(told.line(place.span.description), "red")
    indent = 2 * min(place.depth, _DEEPEST) + 2
    if said:
        for line in said.wrap(console, max(_NARROWEST, options.max_width - indent)):
            line.rstrip()
            yield _one_line(Text(" " * indent).append(line))


def _one_line(text: Text) -> Text:
    text.no_wrap, text.overflow = True, "ellipsis"
    text.rstrip()
    return text


def _marked(span: Span, whole: Summary, cells: int, *, ascii_only: bool) -> str:
    """The span's bar, with a mark where something happened, if there is room for both."""
    start, end = span.start - whole.began, span.end - whole.began
    drawn = bar(start, end, whole.duration, cells, ascii_only=ascii_only)
    first = len(drawn) - len(drawn.lstrip())
    if len(drawn) - first < 3:
        return drawn
    marks = set(_cells((event.time - whole.began for event in span.events), whole.duration, cells))
    mark = "|" if ascii_only else "│"
    return "".join(mark if at in marks and at >= first else cell for at, cell in enumerate(drawn))


def _cells(moments: Iterable[int], whole: int, cells: int) -> Iterator[int]:
    return (min(cells - 1, cells * moment // whole) for moment in moments if 0 <= moment <= whole)


def bar(start: int, end: int, whole: int, cells: int, *, ascii_only: bool) -> str:
    """The bar of a span from `start` to `end` in a trace of `whole` (all one unit), in at most `cells` cells."""
    if whole <= 0:
        return chart.bar(8 * cells, ascii_only=ascii_only)
    first, last = 8 * cells * start // whole, -(-8 * cells * end // whole)
    blank = min(first // 8, cells - 1)
    return " " * blank + chart.bar(max(1, min(8 * cells, last) - 8 * blank), ascii_only=ascii_only)
