"""The last traces as a table. Law: a line for each, as wide as there is room; a narrow one shortens what can be."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Final

from rich.console import ConsoleOptions
from rich.table import Table
from rich.text import Text

from headrace.traces import told
from headrace.traces.source import SHORT
from headrace.traces.summary import Summary

_WIDE: Final = 120  # columns from which on there is room for whole ids, and for names of services


def listing(traces: Sequence[Summary], options: ConsoleOptions) -> Table:
    """The traces in the order given."""
    wide = options.max_width >= _WIDE
    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False, show_edge=False, header_style="dim")
    for name in ("time", "trace"):
        table.add_column(name, no_wrap=True)
    table.add_column("name", max_width=32)
    table.add_column("services", justify="left" if wide else "right", no_wrap=not wide)
    table.add_column("model", max_width=24)
    table.add_column("status", no_wrap=True)
    table.add_column("took", justify="right", no_wrap=True)
    for one in traces:
        began = datetime.fromtimestamp(one.began / 1e9).isoformat(" ", "milliseconds")
        table.add_row(
            began if wide else began[11:19],
            one.trace if wide else one.trace[:SHORT],
            _short(one.name),
            _short(", ".join(one.services)) if wide else str(len(one.services)),
            _short(one.model),
            _status(one),
            told.took(one.duration),
        )
    return table


def _short(text: str) -> Text:
    """Of columns that give way to the others."""
    return Text(text, no_wrap=True, overflow="ellipsis")


def _status(one: Summary) -> Text:
    """What the caller got; and where that is good, whether something on the way was not."""
    if one.status not in ("", "OK"):
        return Text(one.status, "bold red")
    failed = [f"{one.errors} failed"] if one.errors else []
    return Text(", ".join(filter(None, [one.status, *failed])), "yellow" if failed else "")
