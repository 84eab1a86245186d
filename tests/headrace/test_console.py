"""What is shown is read by people, and obeyed by no terminal."""

from __future__ import annotations

import io

import pytest
from rich.table import Table
from rich.text import Text

from headrace.console import Console
from headrace.printable import printable

NASTY = "\x1b]52;c;cm0gLXJm\x07\x1b[2Jdigits\x9b31m\r\x7f"
CLEAN = "\ufffd]52;c;cm0gLXJm\ufffd\ufffd[2Jdigits\ufffd31m\ufffd\ufffd"


@pytest.mark.parametrize("text", ["plain", "two\nlines\tand a tab", "größe · 90 % ─ 数字"])
def test_what_is_printable_stays(text: str) -> None:
    assert printable(text) == text


def test_what_a_terminal_obeys_is_shown_instead() -> None:
    assert printable(NASTY) == CLEAN


def test_nothing_that_is_shown_is_obeyed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    console = Console()
    console.file = io.StringIO()
    table = Table(NASTY)
    table.add_row(Text(NASTY, "bold"))
    for what in (NASTY, Text(NASTY), table):
        console.print(what, markup=False)
    written = console.file.getvalue()
    assert written.count("digits") == 4
    assert not {"\x1b", "\x07", "\x9b", "\r", "\x7f"} & set(written)


def test_rich_keeps_its_own_colours(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("NO_COLOR", "TERM"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("FORCE_COLOR", "1")
    console = Console()
    console.file = io.StringIO()
    console.print("digits", style="bold")
    assert "\x1b[1m" in console.file.getvalue()
