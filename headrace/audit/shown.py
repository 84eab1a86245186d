"""Lines of an audit, picked and drawn. Law: what cannot be read is not shown, for `verify` to find."""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from rich.table import Table
from rich.text import Text

from headrace.audit.files import File
from protos import tracing

Fields = dict[str, Any]


@dataclass(frozen=True)
class Wanted:
    """Which lines: what is None is not asked for. `since`: RFC 3339, as the lines have it; `*` ends a pattern."""

    caller: str | None = None
    model: str | None = None
    request_id: str | None = None
    since: str | None = None
    refused: bool = False

    def holds(self, told: Fields) -> bool:
        """Whether the line is one of them."""
        who = [told.get(name) for name in (tracing.CALLER, tracing.SUBJECT, tracing.ISSUER)]
        return (
            tracing.RPC_METHOD in told
            and (self.since is None or str(told.get(tracing.TIME, "")) >= self.since)
            and (not self.refused or told.get(tracing.DECISION) == "refused")
            and (self.request_id is None or told.get(tracing.REQUEST_ID) == self.request_id)
            and (self.model is None or _like(told.get(tracing.MODEL), self.model))
            and (self.caller is None or any(_like(one, self.caller) for one in who))
        )


def picked(files: Iterable[File], wanted: Wanted, most: int) -> list[tuple[bytes, Fields]]:
    """The last of the lines that are wanted, 0 for all: as it stands there, and what it says. Raises OSError."""
    found = ((line, told) for file in files for line, told in _told(file) if wanted.holds(told))
    return list(deque(found, most or None))


def _told(file: File) -> Iterator[tuple[bytes, Fields]]:
    with file.open() as lines:
        for line in lines:
            try:
                told = json.loads(line)
            except (ValueError, RecursionError):
                continue
            if isinstance(told, dict):
                yield line.rstrip(b"\n"), told


def table(lines: Iterable[Fields], *, wide: bool) -> Table:
    """For people; a wide one tells, too, from where and under which id."""
    made = Table(box=None, pad_edge=False)
    made.add_column("time (UTC)", no_wrap=True)
    made.add_column("decision", no_wrap=True)
    for name in ("outcome", "caller", "call", "model", *(("from", "request id") if wide else ())):
        made.add_column(name, overflow="fold")
    for told in lines:
        row = [*_row(told), *(str(told.get(name, "")) for name in (tracing.PEER_ADDRESS, tracing.REQUEST_ID) if wide)]
        made.add_row(
            *(Text(" ".join(cell.split())) for cell in row),
            style="red" if told.get(tracing.DECISION) == "refused" else "",
        )
    return made


def _row(told: Fields) -> Iterator[str]:
    yield str(told.get(tracing.TIME, ""))[5:19].replace("T", " ")
    yield str(told.get(tracing.DECISION, ""))
    yield str(told.get(tracing.REASON) or told.get(tracing.RPC_STATUS, ""))
    yield str(told.get(tracing.SUBJECT) or told.get(tracing.CALLER, "-"))
    yield str(told.get(tracing.RPC_METHOD, "")).rpartition("/")[2]
    version = told.get(tracing.VERSION_SERVED) or told.get(tracing.VERSION_ASKED)
    yield f"{told.get(tracing.MODEL, '')}{f' {version}' if version else ''}"


def _like(value: object, pattern: str) -> bool:
    if not isinstance(value, str):
        return False
    return value.startswith(pattern[:-1]) if pattern.endswith("*") else value == pattern
