"""`python -m headrace.reference [TOP]` writes docs/reference/metrics.md below TOP, the top of the repository.

Law: what is said there of a metric is said where it is counted.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final

from gateway import metrics as gateway
from protos.metrics.described import Described, Kind, label
from workers import metrics as workers

METRICS: Final = Path("docs/reference/metrics.md")
_TABLES: Final[Mapping[str, Sequence[Described]]] = {
    "The gateway": gateway.INSTRUMENTS,
    "The worker": workers.INSTRUMENTS,
}
_BEGINNING: Final = """\
<!-- Written by `python -m headrace.reference`; a test holds it to the code. -->
# Metrics

What each metric is called by Prometheus, and below it by OpenTelemetry; labels are the same in both, with `_` for `.`.
How they are come by, and what they do not say, is told in [the guide](../metrics.md).
"""
_UNITS: Final[Mapping[str, str]] = {"s": "seconds", "By": "bytes", "1": "a share, 0 to 1"}
_ROW: Final = "|---|---|---|---|"


def written() -> str:
    """The page."""
    return "\n".join([_BEGINNING, *(line for title, table in _TABLES.items() for line in _section(title, table))])


def _section(title: str, table: Sequence[Described]) -> Iterator[str]:
    yield f"## {title}\n"
    yield "| metric | kind, unit | labels | what it says |"
    yield _ROW
    yield from map(_line, table)
    yield ""
    bounds = {one.bounds: one.unit for one in table if one.kind is Kind.HISTOGRAM}
    for each, unit in bounds.items():
        names = ", ".join(f"`{one.exposed}`" for one in table if one.bounds == each)
        written = ", ".join(f"{bound:g}" for bound in each)
        yield f"Bounds of {names}{' in seconds' if unit == 's' else ''}: {written}.\n"


def _line(one: Described) -> str:
    labels = "<br>".join(f"`{label(name)}`" for name in one.labels)
    unit = _UNITS.get(one.unit, "")
    kind = f"{one.kind.value}, {unit}" if unit else one.kind.value
    return f"| `{one.exposed}`<br>`{one.name}` | {kind} | {labels} | {one.help} |"


def main(arguments: list[str]) -> int:
    """Write it."""
    path = Path(*arguments) / METRICS
    path.write_text(written())
    sys.stdout.write(f"{path}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
