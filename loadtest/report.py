"""What a contest has shown, for people and scripts. Law: no ratio of rates where one was not the proxy's own."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from math import isfinite

from rich.box import SIMPLE_HEAD
from rich.table import Table

from loadtest.contest import Case, Results
from loadtest.figures import Ratio, Summary, cpu_ratio, front_ratio, own_rate_ratio, summary
from loadtest.plot import Bars

_HEADINGS = ("case", "proxy", "calls/s", "spread", "CPU µs", "front µs", "p50 µs", "busy", "ratio", "by CPU", "front")


@dataclass(frozen=True, slots=True)
class Target:
    """The subject does at least so many times the calls of the baseline, in a case."""

    subject: str
    baseline: str
    case: str
    at_least: float


@dataclass(frozen=True, slots=True)
class Comparison:
    """A subject over a baseline: calls a second, calls for the same processor time, and that where callers come in."""

    rates: Ratio | None
    cpu: Ratio | None
    front: Ratio | None


@dataclass(frozen=True, slots=True)
class Report:
    """One contest: who was measured in what, by whom the others are told, and what they were meant to reach."""

    title: str
    cases: Sequence[Case]
    contenders: Sequence[str]
    baseline: str
    results: Results
    targets: Sequence[Target] = ()

    @property
    def failed(self) -> int:
        """Calls that were not answered."""
        return sum(sample.failed for samples in self.results.values() for sample in samples)

    def summary(self, case: Case, name: str) -> Summary:
        """One contender in one case."""
        return summary(self.results[case.name, name])

    def compared(self, case: Case, name: str, baseline: str) -> Comparison:
        """Two contenders in one case, round by round."""
        subject, its = self.results[case.name, name], self.results[case.name, baseline]
        rates = own_rate_ratio(subject, its) if case.rated else None
        return Comparison(rates, cpu_ratio(subject, its), front_ratio(subject, its))

    def reached(self) -> Iterator[tuple[Target, Comparison]]:
        """What came of the targets of those that were measured."""
        cases = {case.name: case for case in self.cases}
        for target in self.targets:
            if {target.subject, target.baseline} <= set(self.contenders):
                yield target, self.compared(cases[target.case], target.subject, target.baseline)


def plain(report: Report) -> Mapping[str, object]:
    """For scripts: seconds, calls a second, shares; null where there is nothing to tell."""
    return {
        "title": report.title,
        "baseline": report.baseline,
        "cases": {case.name: {"bytes": case.size, "proxies": dict(_proxies(report, case))} for case in report.cases},
        "targets": [asdict(target) | {"ratios": asdict(found)} for target, found in report.reached()],
    }


def _proxies(report: Report, case: Case) -> Iterator[tuple[str, Mapping[str, object]]]:
    for name in report.contenders:
        figures = asdict(report.summary(case, name))
        ratios = {"ratios": asdict(report.compared(case, name, report.baseline))} if name != report.baseline else {}
        yield name, {key: one if isfinite(one) else None for key, one in figures.items()} | ratios


def table(report: Report) -> Table:
    """For people. Ratios are calls over the baseline's: a second, for the same processor time, and in front alone."""
    made = Table(title=report.title, box=SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 1, 0, 0))
    for heading in _HEADINGS:
        made.add_column(heading, justify="left" if heading in {"case", "proxy"} else "right", no_wrap=True)
    for case in report.cases:
        for name in report.contenders:
            last = name == report.contenders[-1]
            told = case.name if name == report.contenders[0] else ""
            made.add_row(told, name, *_cells(report, case, name), end_section=last)
    return made


def _cells(report: Report, case: Case, name: str) -> Iterator[str]:
    of = report.summary(case, name)
    yield from (f"{of.rate:.0f}", f"{of.spread:.0%}", f"{1e6 * of.cpu_per_call:.0f}", f"{1e6 * of.front_per_call:.0f}")
    yield from (f"{1e6 * of.p50:.0f}", f"{of.busy:.2f}")
    if name != report.baseline:
        compared = report.compared(case, name, report.baseline)
        yield from map(_told, (compared.rates, compared.cpu, compared.front))


def _told(ratio: Ratio | None) -> str:
    return f"{ratio.median:.2f} ({ratio.low:.2f}-{ratio.high:.2f})" if ratio else "-"


def bars(report: Report) -> Iterator[Bars]:
    """To be drawn: a case's processor time for each call."""
    for case in report.cases:
        costs = {name: 1e6 * report.summary(case, name).cpu_per_call for name in report.contenders}
        yield Bars(case.name, "CPU µs per call", costs)


def _idle(report: Report, case: Case, found: Mapping[str, Summary]) -> Iterator[str]:
    names = [name for name in report.contenders if name != report.baseline]
    without = [name for name in names if report.compared(case, name, report.baseline).rates is None]
    if without:
        told = ", ".join(f"{name} ({found[name].busy:.2f})" for name in without)
        pair = f"{told} to {report.baseline} ({found[report.baseline].busy:.2f})"
        yield f"{case.name}: caller, worker or neighbours were the bottleneck, no ratio of rates: {pair}."


def remarks(report: Report) -> Iterator[str]:
    """What failed, whose rates are not their own, and what was reached of what was aimed at."""
    for case in report.cases:
        found = {name: report.summary(case, name) for name in report.contenders}
        yield from (f"{name}, {case.name}: {of.failed} calls failed." for name, of in found.items() if of.failed)
        if case.rated:
            yield from _idle(report, case, found)
    for target, compared in report.reached():
        ratio, by = (compared.rates, "") if compared.rates else (compared.cpu, " by CPU")
        verdict = "met" if ratio and ratio.median >= target.at_least else "missed"
        pair = f"{target.subject} over {target.baseline}, {target.case}"
        yield f"{pair}: {_told(ratio)}{by}, aimed at {target.at_least:.2f}: {verdict}."
