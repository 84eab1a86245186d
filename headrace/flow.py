"""What flows through a mesh, drawn. Law: drawing only; what stands out is what needs someone's eyes."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from typing import TYPE_CHECKING, Final

import grpc
from rich.console import ConsoleOptions, Group
from rich.table import Table
from rich.text import Text

from headrace.chart import bar, plain

if TYPE_CHECKING:
    from mesh.status.rows import Row

_NAMES: Final = {int(code.value[0]): code.name for code in grpc.StatusCode}
_CELLS: Final = 10  # of a bar
_WIDE: Final = 90  # columns from which on there is room for bars
_BREAKERS: Final = {
    "cx_open": "connections",
    "rq_open": "requests",
    "rq_pending_open": "waiting",
    "rq_retry_open": "retries",
}
_NOTHING: Final = "-"


def flow(rows: Sequence[Row], options: ConsoleOptions) -> Group:
    """A line for each version, models apart; and below, in words, what is not as it should be."""
    table = Table(box=None, padding=(0, 2, 0, 0), show_edge=False, header_style="dim")
    table.add_column("model", overflow="fold")
    table.add_column("version", overflow="fold")
    for name in ("asked", "flows", "", "calls/s", "ok", "p50 ms", "p99 ms", "copies"):
        table.add_column(name, justify="left" if name in ("", "copies") else "right", no_wrap=True)
    cells = _CELLS if options.max_width >= _WIDE else 0
    for model, versions in groupby(rows, key=lambda row: row.model):
        for index, row in enumerate(versions):
            table.add_row(model if index == 0 else "", row.version, *_cells(row, cells, ascii_only=plain(options)))
    troubles = [Text(f"{row.model} {row.version}: {what}", "yellow") for row in rows if (what := _trouble(row))]
    return Group(table, *troubles)


def _cells(row: Row, width: int, *, ascii_only: bool) -> Sequence[str | Text]:
    return (
        f"{row.weight:.0f} %",
        _NOTHING if row.share is None else f"{row.share:.1f} %",
        Text(bar(round((row.share or 0) / 100 * width * 8), ascii_only=ascii_only), "cyan"),
        f"{row.rate:.1f}",
        _ok(row),
        _milliseconds(row.p50),
        _milliseconds(row.p99),
        _copies(row),
    )


def _ok(row: Row) -> Text:
    calls = sum(row.statuses.values())
    if not calls:
        return Text(_NOTHING)
    share = row.statuses.get(0, 0) / calls
    return Text(f"{share:.1%}".replace("%", " %"), "" if share == 1 else "bold red")


def _milliseconds(value: float | None) -> str:
    """Envoy counts whole ones."""
    return _NOTHING if value is None else "<1" if value < 1 else f"{value:.0f}"


def _copies(row: Row) -> Text:
    if row.ejected:
        return Text(f"{row.copies - row.ejected} of {row.copies}", "bold red")
    return Text(str(row.copies), "" if row.copies else "bold red")


def _trouble(row: Row) -> str:
    """Failures by status, copies that are ejected or missing, breakers."""
    failed = [f"{count} {_NAMES.get(status, status)}" for status, count in sorted(row.statuses.items()) if status]
    ejected = [f"{row.ejected} ejected"] if row.ejected else []
    breakers = [f"breaker open: {', '.join(_BREAKERS[name] for name in row.open)}"] if row.open else []
    refused = [f"{row.refused} over the breaker"] if row.refused else []
    missing = [] if row.copies else ["no copies"]
    return ", ".join([*failed, *missing, *ejected, *refused, *breakers])
