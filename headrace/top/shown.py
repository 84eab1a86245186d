"""How it is drawn. Law: drawing only; it fits the terminal, and what does not fit is told.

Every line is one line: what is too long ends in an ellipsis. What stands out is what needs someone's eyes.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Final, Literal

from rich.console import ConsoleOptions, Group, RenderableType
from rich.table import Table
from rich.text import Text

from headrace.chart import bar, plain
from headrace.top.rates import Row, View
from protos.metrics.described import LATENCY

BREAKERS: Final = {
    "cx_open": "connections",
    "rq_open": "requests",
    "rq_pending_open": "waiting",
    "rq_retry_open": "retries",
}
_CELLS: Final = 10  # of a bar
_WIDE: Final = 104  # columns from which on there is room for bars, lanes and admission
_HEAD: Final = 4  # lines above the first row
_FEWEST: Final = 5  # lines that notes have, however many rows there are
_GAP: Final = 2  # columns between two
_SHORTEST: Final = 8  # columns of a model's name
_WORDS: Final = ("version", "", "copies", "running")  # which begin where their column does
_NOTHING: Final = "-"


def shown(view: View, head: Text, options: ConsoleOptions, height: int | None = None) -> Group:
    """The picture, of so many lines at most; the first says whose it is."""
    head.no_wrap, head.overflow = True, "ellipsis"
    rows, notes, left_out = fitted(view.rows, list(_notes(view, options.max_width)), height)
    drawn: list[RenderableType] = [head, _totals(view, options.max_width), "", _table(rows, view, options)]
    if left_out:
        drawn.append(_line(_more(left_out), "dim"))
    if notes:
        drawn += ["", *notes]
    return Group(*drawn)


def waiting(url: str, why: str) -> Group:
    """The picture while there is nothing to show."""
    return Group(_line(f"headrace top  {url}", "bold"), _line(why, "yellow"))


def fitted(
    rows: Sequence[Row], notes: Sequence[Text], height: int | None
) -> tuple[Sequence[Row], Sequence[Text], Sequence[Row]]:
    """The rows and notes for which there is room, and the rows for which there is none."""
    if height is None:
        return rows, notes, ()
    room = height - _HEAD
    if len(rows) + bool(notes) + len(notes) <= room:
        return rows, notes, ()
    kept = min(len(notes), max(min(_FEWEST, room // 2), room - 1 - len(rows)))
    if kept < len(notes):
        notes = [*notes[: kept - 1], _line(f"and {len(notes) - kept + 1} more lines", "dim")]
    room = max(1, room - bool(notes) - len(notes))
    if len(rows) <= room:
        return rows, notes, ()
    return rows[: room - 1], notes, rows[room - 1 :]


def _more(rows: Sequence[Row]) -> str:
    models = len({row.model for row in rows})
    versions = f"and {len(rows)} more line{'s' * (len(rows) > 1)}, of {models} model{'s' * (models > 1)}"
    return f"{versions}: {_rate(sum(row.rate for row in rows))} calls/s"


def _totals(view: View, width: int) -> Text:
    lanes = ", ".join(f"{count:.0f} {lane or _NOTHING}" for lane, count in sorted(view.active.items()) if count)
    told = Text.assemble(
        f"{_rate(view.rate)} calls/s   ",
        _ok(view.ok),
        f" ok   p50 {seconds(view.p50)}   p99 {seconds(view.p99)}",
        f"   {sum(view.active.values()):.0f} in flight" if view.active else "",
        f": {lanes}" if lanes and width >= _WIDE else "",
    )
    told.no_wrap, told.overflow = True, "ellipsis"
    return told


def _table(rows: Sequence[Row], view: View, options: ConsoleOptions) -> Table:
    """Of what is too wide the model's name gives way."""
    wide = options.max_width >= _WIDE
    heads = ["version", "calls/s", "share", *([""] if wide else []), "ok", "p50", "p99", "copies"]
    heads += ["express", "running"] if wide else []
    first = [at == 0 or rows[at - 1].model != row.model for at, row in enumerate(rows)]
    lines = [
        [*_of_version(row, options, wide=wide), *(_of_model(row, view) if wide and begins else ())]
        for row, begins in zip(rows, first, strict=True)
    ]
    widths = [
        max([len(head), *(line[at].cell_len for line in lines if at < len(line))]) for at, head in enumerate(heads)
    ]
    left = options.max_width - sum(width + _GAP for width in widths) - _GAP
    table = Table(box=None, padding=(0, _GAP, 0, 0), show_edge=False, header_style="dim")
    table.add_column("model", no_wrap=True, overflow="ellipsis", max_width=max(left, _SHORTEST))
    for head, width in zip(heads, widths, strict=True):
        justify: Literal["left", "right"] = "left" if head in _WORDS else "right"
        table.add_column(head, justify=justify, no_wrap=True, min_width=width)
    for row, begins, line in zip(rows, first, lines, strict=True):
        table.add_row(row.model if begins else "", *line)
    return table


def _of_version(row: Row, options: ConsoleOptions, *, wide: bool) -> list[Text]:
    cells = [Text(row.version or _NOTHING), Text(_rate(row.rate)), Text(percent(row.share))]
    if wide:
        cells.append(Text(bar(round((row.share or 0) * _CELLS * 8), ascii_only=plain(options)), "cyan"))
    return [*cells, _ok(row.ok), Text(seconds(row.p50)), Text(seconds(row.p99)), _copies(row)]


def _of_model(row: Row, view: View) -> Sequence[Text]:
    return Text(percent(row.express)), Text(_admitted(view, row.model))


def _notes(view: View, width: int) -> Iterator[Text]:
    """What else there is to tell, in lines of this width."""
    if not view.ready:
        yield _line("the gateway is not ready: its /readyz says why", "bold red")
    if view.config_refused:
        yield _line("the configuration as it is now is refused: headrace config check says why", "bold red")
    if view.audit_failing:
        yield _line("audit lines cannot be written", "bold red")
    for words in view.silent:
        yield _line(words, "yellow")
    if view.lost:
        yield from _flowed("lost telemetry", _rates(view.lost), width, "yellow")
    yield from _flowed("refused", _rates(view.refused), width)
    if width < _WIDE:
        yield from _flowed("running", (f"{model} {_admitted(view, model)}" for model in view.admission), width)
    for row in view.rows:
        if row.version:
            yield from _flowed(f"{row.model} {row.version}", _troubles(row), width, "yellow")


def _troubles(row: Row) -> Iterator[str]:
    yield from _rates(row.failed)
    if row.copies is not None and not row.copies:
        yield "no copies"
    elif row.ejected:
        yield f"{row.ejected} ejected"
    elif row.copies is not None and row.ready is not None and row.ready < row.copies:
        yield f"{row.copies - row.ready:.0f} not ready"
    if row.over:
        yield f"over the breaker {_rate(row.over)}/s"
    if row.open:
        yield f"breaker open: {', '.join(BREAKERS.get(name, name) for name in row.open)}"


def _rates(told: Mapping[str, float]) -> Iterator[str]:
    return (f"{name} {_rate(value)}/s" for name, value in told.items())


def _flowed(head: str, items: Iterable[str], width: int, style: str = "") -> Iterator[Text]:
    """`head: ITEM, ITEM,` and as many lines more as they take."""
    line, empty = f"{head}:", True
    for item in items:
        if not empty and len(line) + len(item) + 2 > width:
            yield _line(f"{line},", style)
            line, empty = " " * (len(head) + 1), True
        line += f" {item}" if empty else f", {item}"
        empty = False
    if not empty:
        yield _line(line, style)


def _line(words: str, style: str = "") -> Text:
    return Text(words, style, no_wrap=True, overflow="ellipsis")


def _copies(row: Row) -> Text:
    if row.copies is None:
        return Text(_NOTHING)
    if row.ready is not None and row.ready < row.copies:
        return Text(f"{row.ready:.0f} of {row.copies:.0f}", "bold red")
    return Text(f"{row.copies:.0f}", "" if row.copies else "bold red")


def _admitted(view: View, model: str) -> str:
    if (one := view.admission.get(model)) is None:
        return ""
    return f"{one.running:.0f} of {one.limit:.0f}"


def _ok(share: float | None) -> Text:
    return Text(percent(share), "" if share in (None, 1.0) else "bold red" if share < 0.99 else "yellow")


def percent(share: float | None) -> str:
    """0.905 -> `90.5 %`; what is nearly all, or nearly nothing, is neither."""
    if share is None:
        return _NOTHING
    if share in (0.0, 1.0):
        return f"{share * 100:.0f} %"
    return f"{min(max(share * 100, 0.1), 99.9):.1f} %"


def seconds(value: float | None) -> str:
    """0.0042 -> `4.2 ms`; what is over the last bound is told as that."""
    if value is None:
        return _NOTHING
    if value >= LATENCY[-1]:
        return f">{LATENCY[-1]:.0f} s"
    if value >= 1:
        return f"{value:.1f} s"
    milliseconds = value * 1000
    return f"{milliseconds:.0f} ms" if milliseconds >= 10 else f"{milliseconds:.{1 if milliseconds >= 1 else 2}f} ms"


def _rate(value: float) -> str:
    return f"{value:.0f}" if value >= 1000 or not value else f"{value:.1f}" if value >= 0.1 else "<0.1"
