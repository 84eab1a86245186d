"""In what form it is told. Law: results to standard output, all else to standard error."""

from __future__ import annotations

from enum import StrEnum

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn


class Output(StrEnum):
    """For people, or for scripts."""

    TABLE = "table"
    JSON = "json"


def bar(console: Console) -> Progress:
    """What is done, where somebody looks."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    return Progress(*columns, console=console, transient=True, disable=not console.is_terminal)
