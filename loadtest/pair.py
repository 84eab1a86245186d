"""The Python gateway against the least that a grpc.aio proxy can do. Law: nothing is judged but failed calls."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from math import isfinite

import typer
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from loadtest.children import Broken
from loadtest.figures import BUSY, Ratio, Summary, cpu_ratio, rate_ratio, summary
from loadtest.output import Output, bar
from loadtest.payload import SHAPES, request
from loadtest.rounds import BASELINE, SUBJECT, Plan, Results, measure, samples, stage

_HEADINGS = ("kB", "proxy", "calls/s", "CPU µs", "p50 µs", "busy", "ratio", "range", "by CPU", "target")
TARGETS = {"small": 0.65, "large": 0.85}  # of the baseline's rate, for the gateway


def run(subject: str, plan: Plan, output: Output, *, backend_status: int = 0) -> None:
    """Measure and print. Raises typer.Exit with 1 where calls failed or something did not start."""
    notes = Console(stderr=True)
    try:
        with stage(subject, backend_status=backend_status) as standing, bar(notes) as progress:
            task = progress.add_task(f"{subject} against bare", total=samples(plan))
            results = asyncio.run(measure(standing, plan, lambda: progress.advance(task)))
            spans = standing.collector.spans
    except Broken as broken:
        notes.print(f"nothing measured: {broken}")
        raise typer.Exit(1) from None
    outcome = {shape: _outcome(results, shape) for shape in SHAPES}
    if output is Output.JSON:
        print(json.dumps(_plain(subject, plan, outcome, spans), allow_nan=False))  # noqa: T201 - the result
    else:
        Console().print(_table(subject, outcome))
        notes.print(f"The collector got {spans} spans.")
    for warning in _warnings(subject, outcome):
        notes.print(warning)
    if any(it.failed for case in outcome.values() for it in (case.subject, case.baseline)):
        raise typer.Exit(1)


@dataclass(frozen=True, slots=True)
class Outcome:
    """Both proxies with one size of request: what they did, and the subject over the baseline."""

    subject: Summary
    baseline: Summary
    ratio: Ratio | None
    cpu_ratio: Ratio | None


def _outcome(results: Results, shape: str) -> Outcome:
    subject, baseline = results[SUBJECT, shape], results[BASELINE, shape]
    return Outcome(summary(subject), summary(baseline), rate_ratio(subject, baseline), cpu_ratio(subject, baseline))


def _plain(subject: str, plan: Plan, outcome: Mapping[str, Outcome], spans: int) -> dict[str, object]:
    """For scripts: seconds, calls a second, shares; null where nothing was answered."""
    sizes = {
        shape: {
            "bytes": len(request(SHAPES[shape])),
            "subject": _finite(case.subject),
            "baseline": _finite(case.baseline),
            "ratio": asdict(case.ratio) if case.ratio else None,
            "cpu_ratio": asdict(case.cpu_ratio) if case.cpu_ratio else None,
            "target": TARGETS[shape],
        }
        for shape, case in outcome.items()
    }
    return {"subject": subject, "baseline": "bare", "plan": asdict(plan), "spans": spans, "sizes": sizes}


def _finite(of: Summary) -> dict[str, float | None]:
    return {name: value if isfinite(value) else None for name, value in asdict(of).items()}


def _table(subject: str, outcome: Mapping[str, Outcome]) -> Table:
    """For people."""
    title = f"{subject} against a bare grpc.aio pass-through"
    table = Table(title=title, box=SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 1, 0, 0))
    for heading in _HEADINGS:
        table.add_column(heading, justify="left" if heading == "proxy" else "right", no_wrap=True)
    for shape, case in outcome.items():
        rates, cpu = case.ratio, case.cpu_ratio
        against = (f"{rates.median:.3f}", f"{rates.low:.2f}-{rates.high:.2f}") if rates else ("-", "-")
        by_cpu = f"{cpu.median:.3f}" if cpu else "-"
        target = f"{TARGETS[shape]}" if subject == "gateway" else "-"
        table.add_row(
            f"{len(request(SHAPES[shape])) / 1000:.1f}", subject, *_cells(case.subject), *against, by_cpu, target
        )
        table.add_row("", "bare", *_cells(case.baseline), end_section=True)
    return table


def _cells(of: Summary) -> tuple[str, ...]:
    """Calls a second, processor time of one, latency of one at a time, share of the processor."""
    return f"{of.rate:.0f}", f"{1e6 * of.cpu_per_call:.0f}", f"{1e6 * of.p50:.0f}", f"{of.busy:.2f}"


def _warnings(subject: str, outcome: Mapping[str, Outcome]) -> Iterator[str]:
    for shape, case in outcome.items():
        for name, of in ((subject, case.subject), ("bare", case.baseline)):
            if of.failed:
                yield f"{name}, {shape}: {of.failed} calls failed."
            elif of.busy < BUSY:
                yield f"{name}, {shape}: its processor was busy for {of.busy:.2f} only; the rate may be another's."
