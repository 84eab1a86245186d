"""Bars of text. Law: a bar's length is its share, drawn in eighths of a cell where the terminal can."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from rich.console import ConsoleOptions
from rich.table import Table
from rich.text import Text

_EIGHTHS: Final = ("", "▏", "▎", "▍", "▌", "▋", "▊", "▉")
_CELLS: Final = 40


def plain(options: ConsoleOptions) -> bool:
    """Whether only ASCII can be shown."""
    return options.ascii_only or not options.encoding.startswith("utf")


def bar(eighths: int, *, ascii_only: bool) -> str:
    """A bar of so many eighths of a cell; in ASCII of as many cells as it touches."""
    if ascii_only:
        return "#" * -(-eighths // 8)
    return "█" * (eighths // 8) + _EIGHTHS[eighths % 8]


def bars(shares: Mapping[int, float], options: ConsoleOptions) -> Table:
    """One line for each share (0 to 1): whose, its percentage, its bar; the largest stands out."""
    table = Table(box=None, padding=(0, 2, 0, 0), show_edge=False, show_header=False)
    largest = max(shares, key=shares.__getitem__)
    for index, share in shares.items():
        drawn = bar(round(share * _CELLS * 8), ascii_only=plain(options))
        table.add_row(str(index), f"{share:6.1%}", Text(drawn, "cyan"), style="bold" if index == largest else "dim")
    return table
