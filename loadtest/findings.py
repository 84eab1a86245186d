"""All that one run of a benchmark has found. Law: for people, for scripts and as a picture it is the same."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from rich.table import Table

from loadtest import plot, report
from loadtest.contest import Case, Drive, Effort, measure, turns
from loadtest.ground import Contender
from loadtest.plot import Panel
from loadtest.report import Report, Target

Track = Callable[[str, int], Callable[[], None]]
"""Tells that so many turns of something begin; what it gives is called after each."""


@dataclass(frozen=True, slots=True)
class Findings:
    """Contests; what else was found, by its name, for people as `tables`; what to draw; and what to say of it."""

    reports: Sequence[Report]
    panels: Sequence[Panel]
    tables: Sequence[Table] = ()
    more: Mapping[str, object] = field(default_factory=dict)
    notes: Sequence[str] = ()

    @property
    def failed(self) -> bool:
        """Whether a call was not answered."""
        return any(one.failed for one in self.reports)

    def for_people(self) -> Iterator[Table]:
        """Tables."""
        yield from map(report.table, self.reports)
        yield from self.tables

    def for_scripts(self) -> str:
        """JSON."""
        contests = [report.plain(one) for one in self.reports]
        return json.dumps({"contests": contests, **self.more, "notes": list(self.remarks())}, allow_nan=False, indent=1)

    def remarks(self) -> Iterator[str]:
        """Sentences."""
        for one in self.reports:
            yield from report.remarks(one)
        yield from self.notes

    def write(self, folder: Path, name: str) -> None:
        """NAME.json and NAME.svg."""
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{name}.json").write_text(self.for_scripts() + "\n")
        plot.draw(folder / f"{name}.svg", self.panels)


def contest(
    title: str,
    contenders: Sequence[Contender],
    cases: Mapping[Case, Drive],
    effort: Effort,
    track: Track,
    targets: Sequence[Target] = (),
) -> Report:
    """Measure; the first contender is the baseline. Raises Broken."""
    results = measure(contenders, cases, effort, track(title, turns(contenders, cases, effort)))
    names = [contender.name for contender in contenders]
    return Report(title, list(cases), names, names[0], results, targets)
