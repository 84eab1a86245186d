"""Findings as text. Law: a finding is one line, whoever wrote what is in it, and what to do is another."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import asdict, replace
from typing import Final

from headrace.doctor.finding import Finding
from headrace.printable import printable

_LONGEST: Final = 600  # characters of what may come from a remote
_WIDTH: Final = len("warning") + 2


def as_lines(findings: Iterable[Finding]) -> Iterator[str]:
    """For people."""
    for one in map(_plain, findings):
        yield f"{one.level:<{_WIDTH}}{one.what}"
        if one.do:
            yield f"{'':<{_WIDTH}}-> {one.do}"


def as_json(findings: Iterable[Finding]) -> str:
    """For scripts."""
    return json.dumps([asdict(_plain(one)) for one in findings], indent=2)


def _plain(one: Finding) -> Finding:
    return replace(one, what=_line(one.what), do=_line(one.do))


def _line(text: str) -> str:
    line = printable(" ".join(text.split()))
    return line if len(line) <= _LONGEST else f"{line[:_LONGEST]}..."
