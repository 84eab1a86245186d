"""Connections that are open while others call. Law: each round begins with a new gateway, for memory is not given back.

So their number only grows within a round; each has had one call, and stays.
"""

from __future__ import annotations

import asyncio
import resource
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from statistics import median

from rich.box import SIMPLE_HEAD
from rich.table import Table

from loadtest import callers, contenders
from loadtest.children import Broken
from loadtest.contest import Case, Effort, enough, sample
from loadtest.express import case
from loadtest.figures import Sample
from loadtest.findings import Findings, Track
from loadtest.ground import Contender, ground
from loadtest.h2load import Load
from loadtest.payload import SHAPES, request
from loadtest.plot import Lines
from loadtest.processes import memory
from loadtest.report import Report, Target
from loadtest.setting import LANES, Lane

_LOAD = Load(16, 1)
_SMALL = request(SHAPES["small"])
_SPARE = 1000  # files that a process has open besides


@dataclass(frozen=True, slots=True)
class Held:
    """While so many were open: resident bytes of what callers reach and of all behind it, and calls meanwhile."""

    front: int
    behind: int
    calls: Sample


Rounds = Mapping[tuple[str, int], Sequence[Held]]  # by lane and connections


def connections(counts: Sequence[int], effort: Effort, track: Track, flat: float) -> Findings:
    """Both lanes, with none and with more and more connections besides those that call. Raises Broken."""
    _allow_files(max(counts) + _SPARE)
    done = track("connections", effort.rounds * len(LANES))
    found: dict[tuple[str, int], list[Held]] = defaultdict(list)
    for _ in range(effort.rounds):
        for lane in LANES:
            for count, held in _round(lane, (0, *counts), effort.seconds):
                found[lane, count].append(held)
            done()
    reports = [_report(lane, counts, found, flat) for lane in LANES]
    lines = {lane: [(count, _each(found, lane, count) / 1024) for count in counts if count > 1] for lane in LANES}
    return Findings(
        reports,
        [Lines("connections", "connections", "KiB for each", lines)],
        [_table(counts, found)],
        {"connections": {lane: {count: _plain(found, lane, count) for count in (0, *counts)} for lane in LANES}},
    )


def _allow_files(number: int) -> None:
    """For this process and all that it starts."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard < number:
        raise Broken(f"{number} open files are needed, and {hard} are allowed: ulimit -n")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, number), hard))


def _round(lane: str, counts: Sequence[int], seconds: float) -> Iterator[tuple[int, Held]]:
    with ground() as here:
        contender, _ = contenders.lane(here, lane, Lane(express=LANES[lane]))
        calling, drive = case(here, "connections", _SMALL, _LOAD)
        calls = enough(contender, calling, drive, seconds)
        for count in counts:
            yield count, asyncio.run(_held(contender, partial(sample, contender, drive, calls, seconds), count))


async def _held(contender: Contender, turn: Callable[[], Sample], count: int) -> Held:
    async with callers.holding(contender, _SMALL, count):
        front, behind = (sum(memory(pid)[0] for pid in pids) for pids in (contender.front, contender.behind))
        return Held(front, behind, await asyncio.to_thread(turn))


def _report(lane: str, counts: Sequence[int], found: Rounds, flat: float) -> Report:
    """More of them against few, by what calls took."""
    few, *many = (count for count in counts if count > 1)
    names = {count: f"{lane}, {count}" for count in (few, *many)}
    results = {("connections", name): [held.calls for held in found[lane, count]] for count, name in names.items()}
    told = Case("connections", len(_SMALL), _LOAD.width, rated=False)
    targets = [Target(names[count], names[few], told.name, flat) for count in many]
    return Report(f"{lane}: open connections", [told], list(names.values()), names[few], results, targets)


def _each(found: Rounds, lane: str, count: int) -> float:
    """Bytes of a connection, of all processes."""
    pairs = zip(found[lane, count], found[lane, 0], strict=True)
    return median((with_.front + with_.behind - none.front - none.behind) / count for with_, none in pairs)


def _plain(found: Rounds, lane: str, count: int) -> Mapping[str, float | None]:
    rounds = found[lane, count]
    return {
        "front": median(held.front for held in rounds),
        "behind": median(held.behind for held in rounds),
        "each": _each(found, lane, count) if count else None,
    }


def _table(counts: Sequence[int], found: Rounds) -> Table:
    made = Table(title="memory of open connections", box=SIMPLE_HEAD, show_edge=False, pad_edge=False)
    for heading in ("lane", "connections", "front MiB", "behind MiB", "KiB each"):
        made.add_column(heading, justify="left" if heading == "lane" else "right")
    for lane in LANES:
        for count in (0, *counts):
            told = _plain(found, lane, count)
            each = f"{told['each'] / 1024:.1f}" if told["each"] is not None else ""
            made.add_row(lane, f"{count}", f"{_mib(told['front'])}", f"{_mib(told['behind'])}", each)
    return made


def _mib(size: float | None) -> str:
    return f"{(size or 0) / 2**20:.0f}"
