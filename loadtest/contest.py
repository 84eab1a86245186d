"""Contenders by turns. Law: in each round all see the same bytes, one after the other, and the order is swapped."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import ceil
from statistics import median

from loadtest.children import Broken
from loadtest.figures import Sample
from loadtest.ground import Contender
from loadtest.h2load import Run
from loadtest.processes import cpu

_WARM = 0.25  # of the measured time, at least, before it
_SHORT = 0.5  # of the time that a turn should take; after less, more is done


@dataclass(frozen=True, slots=True)
class Case:
    """What is asked of each: messages of so many bytes, `width` at a time.

    `rated`: whether that may keep a proxy busy, so that rates can be told.
    """

    name: str
    size: int
    width: int
    rated: bool = True


Drive = Callable[[Contender, int], Run]
"""Has so many calls done."""


@dataclass(frozen=True, slots=True)
class Effort:
    """How often, and for about how many seconds each time."""

    rounds: int
    seconds: float


Results = Mapping[tuple[str, str], Sequence[Sample]]  # by the names of case and contender


def turns(contenders: Sequence[Contender], cases: Mapping[Case, Drive], effort: Effort) -> int:
    """How often `measure` will say that it has done one."""
    return (effort.rounds + 1) * len(contenders) * len(cases)


def measure(
    contenders: Sequence[Contender], cases: Mapping[Case, Drive], effort: Effort, done: Callable[[], None]
) -> Results:
    """All rounds, after one that is thrown away: it warms up, and tells how many calls take so long. Raises Broken."""
    numbers: dict[tuple[str, str], int] = {}
    for case, drive in cases.items():
        for contender in contenders:
            numbers[case.name, contender.name] = enough(contender, case, drive, effort.seconds)
            done()
    results: dict[tuple[str, str], list[Sample]] = {key: [] for key in numbers}
    for index in range(effort.rounds):
        for case, drive in cases.items():
            for contender in contenders if index % 2 == 0 else reversed(contenders):
                key = case.name, contender.name
                results[key].append(sample(contender, drive, numbers[key], effort.seconds))
                done()
    return results


def sample(contender: Contender, drive: Drive, calls: int, seconds: float = 0.0) -> Sample:
    """One contender's turn: so many calls, and again if that was over too soon. Raises Broken: it has ended."""
    before = _spent(contender)
    runs = [drive(contender, calls)]
    while sum(run.seconds for run in runs) < _SHORT * seconds:
        runs.append(drive(contender, calls))
    front, behind = _counted(contender, before, _spent(contender))
    return Sample(
        calls=sum(run.done for run in runs),
        failed=sum(run.failed for run in runs),
        seconds=sum(run.seconds for run in runs),
        cpu=front + behind,
        p50=median(run.p50 for run in runs),
        front=front,
    )


def _spent(contender: Contender) -> Mapping[int, float]:
    try:
        return {pid: cpu([pid]) for pid in (*contender.front, *contender.behind)}
    except OSError:
        raise Broken(f"{contender.name} has ended") from None


def _counted(contender: Contender, before: Mapping[int, float], after: Mapping[int, float]) -> tuple[float, float]:
    front, behind = ([after[pid] - before[pid] for pid in pids] for pids in (contender.front, contender.behind))
    return sum(front), max(behind, default=0.0) if contender.busiest else sum(behind)


def enough(contender: Contender, case: Case, drive: Drive, seconds: float) -> int:
    """How many calls take so long: more and more are tried; the first ones, which find nothing ready, tell nothing."""
    calls = case.width
    while True:
        run = drive(contender, calls)
        if run.failed:
            raise Broken(f"{contender.name}, {case.name}: {run.failed} of the first {calls} calls failed")
        if calls > case.width and run.seconds >= _WARM * seconds:
            return max(case.width, ceil(run.done / run.seconds * seconds))
        calls *= 4
