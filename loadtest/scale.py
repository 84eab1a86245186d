"""Ours with more of everything. Law: one thing grows at a time, and is compared with little of it.

Models, each with a grant and a caller of its own; bytes of a message; connections (`loadtest.connections`); and
processes (`loadtest.several`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import cycle

from loadtest import callers, contenders
from loadtest.connections import connections
from loadtest.contest import Case, Drive, Effort, sample
from loadtest.express import case
from loadtest.figures import Sample
from loadtest.findings import Findings, Track, contest
from loadtest.generator import spelled
from loadtest.ground import Contender, Ground, ground
from loadtest.h2load import Load, Run
from loadtest.payload import SHAPES, model, request
from loadtest.plot import Lines
from loadtest.report import Report, Target
from loadtest.setting import LANES, Lane
from loadtest.several import several

COUNTS = (10, 100, 1_000, 10_000)
PROCESSES = (1, 2, 4)
SIZES = (100, 1_000, 10_000, 100_000, 1_000_000, 10_000_000, 64_000_000)
FLAT = 1 / 1.1  # of the calls that little of it allows for the same processor time: 10 % more for each
_WIDTH = 16
_LOAD = Load(4, 1)  # of messages that may be large
_SMALL = SHAPES["small"]


def measured(effort: Effort, track: Track, most: int, largest: int) -> Findings:
    """Up to so many models and connections, and messages up to so many bytes. Raises Broken."""
    counts = [count for count in COUNTS if count <= most]
    first: dict[str, Sample] = {}
    reports = [_with_models(lane, counts, effort, track, first) for lane in LANES]
    held = connections((1, *counts), effort, track, FLAT)
    sizes = _with_sizes([size for size in SIZES if size <= largest], effort, track)
    shared = several(PROCESSES, effort, track)
    return Findings(
        [*reports, *held.reports, sizes, shared],
        [_line("models", reports, counts), *held.panels, _line_of_sizes(sizes)],
        held.tables,
        {"first_calls": {name: one.cpu_per_call for name, one in first.items()}, **held.more},
        [f"{name} models: a caller's first call took {1e6 * one.cpu_per_call:.0f} µs." for name, one in first.items()],
    )


def _with_models(lane: str, counts: Sequence[int], effort: Effort, track: Track, first: dict[str, Sample]) -> Report:
    """One lane with so many models, all of whose callers take turns; what their first calls took goes to `first`."""
    with ground() as here:
        made = {f"{lane}, {count}": _with_callers(here, lane, count) for count in counts}
        case, drive = _in_turns({name: calls for name, (_, calls) in made.items()})
        began = track(f"{lane}: first calls", len(counts))
        for (name, (contender, _)), count in zip(made.items(), counts, strict=True):
            first[name] = sample(contender, drive, count)
            began()
        names = list(made)
        targets = [Target(name, names[0], case.name, FLAT) for name in names[1:]]
        contenders = [contender for contender, _ in made.values()]
        return contest(f"{lane}: models, grants and callers", contenders, {case: drive}, effort, track, targets)


def _with_callers(ground: Ground, lane: str, count: int) -> tuple[Contender, Sequence[tuple[bytes, bytes]]]:
    contender, tokens = contenders.lane(ground, f"{lane}, {count}", Lane(express=LANES[lane], models=count))
    calls = [
        spelled(contender.address, contenders.bearer(token), request(_SMALL, model(index)))
        for index, token in enumerate(tokens)
    ]
    return contender, calls


def _in_turns(calls: Mapping[str, Sequence[tuple[bytes, bytes]]]) -> tuple[Case, Drive]:
    turns = {name: cycle(these) for name, these in calls.items()}

    def drive(contender: Contender, number: int) -> Run:
        return callers.drive(contender.address, turns[contender.name], number, _WIDTH)

    return Case("models", len(request(_SMALL)), _WIDTH, rated=False), drive


def _with_sizes(sizes: Sequence[int], effort: Effort, track: Track) -> Report:
    """A bare hop and both lanes, and messages of so many bytes, or a few more."""
    overhead = len(request((1, 1)))
    messages = {size: request((1, max(1, (size - overhead) // 4))) for size in sizes}
    with ground() as here:
        lanes = [contenders.lane(here, name, Lane(express=on))[0] for name, on in LANES.items()]
        cases = dict(case(here, f"{size:,} B", message, _LOAD) for size, message in messages.items())
        return contest("bytes of a message", [contenders.bare_hop(here), *lanes], cases, effort, track)


def _line(what: str, reports: Sequence[Report], counts: Sequence[int]) -> Lines:
    lines = {}
    for report in reports:
        costs = [1e6 * report.summary(report.cases[0], name).cpu_per_call for name in report.contenders]
        lines[report.baseline.partition(",")[0]] = list(zip(counts, costs, strict=True))
    return Lines(what, what, "CPU µs per call", lines)


def _line_of_sizes(report: Report) -> Lines:
    lines = {
        name: [(case.size, 1e6 * report.summary(case, name).cpu_per_call) for case in report.cases]
        for name in report.contenders
    }
    return Lines(report.title, "bytes", "CPU µs per call", lines)
