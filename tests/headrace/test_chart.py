from __future__ import annotations

import io

from rich.console import Console

from headrace.chart import bar, bars


def test_a_bar_has_eighths_where_it_can() -> None:
    assert bar(20, ascii_only=False) == "██▌"
    assert bar(20, ascii_only=True) == "###"
    assert bar(0, ascii_only=False) == bar(0, ascii_only=True) == ""


def test_each_share_has_its_line() -> None:
    console = Console(file=io.StringIO(), width=80)
    console.print(bars({0: 0.25, 1: 0.75, 2: 0.0}, console.options))
    file = console.file
    assert isinstance(file, io.StringIO)
    lines = [line.split() for line in file.getvalue().splitlines()]
    assert [line[:2] for line in lines] == [["0", "25.0%"], ["1", "75.0%"], ["2", "0.0%"]]
    assert [len(line[2]) if len(line) > 2 else 0 for line in lines] == [10, 30, 0]
