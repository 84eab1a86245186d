"""Two callers of one model. Law: one keeps its pace; the other calls as often, or twenty times as often.

Three gateways, each before a worker of its own: without limits, with a rate for each caller, and with a limit on how
many calls the model bears. What counts is the modest caller's 99th percentile: how much of it is the other's doing.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from statistics import median, quantiles

from rich.box import SIMPLE_HEAD
from rich.table import Table

from loadtest import setting
from loadtest.children import Broken, Child, Room, child, room
from loadtest.contenders import bearer
from loadtest.findings import Findings, Track
from loadtest.pace import Pace, Seen, keep
from loadtest.plot import Bars

AT_A_TIME, TAKES = 8, 0.02  # of the worker: it bears 400 calls a second
SHARE = 50.0  # calls a second
TIMES = (1, 20)
AIM = 1.2
_TITLE = f"one caller at {SHARE:g}/s beside another, before a worker that bears {AT_A_TIME / TAKES:g}/s"
_WARM = 0.25  # of the measured time

POLICIES: Mapping[str, tuple[Mapping[str, object], Mapping[str, object] | None]] = {
    "no limits": ({}, None),
    "a rate": ({"rate": f"{1.2 * SHARE:g}/s", "burst": 10}, None),
    "what it bears": ({}, {"floor": AT_A_TIME, "queue": "2ms"}),
}
"""By name: the limits of the grants, and the admission of the model."""


@dataclass(frozen=True, slots=True)
class Turn:
    """What both callers saw in the same seconds."""

    modest: Seen
    greedy: Seen


Found = Mapping[tuple[str, int], list[Turn]]  # by gateway and how many times its share the greedy one calls


def measured(rounds: int, seconds: float, track: Track) -> Findings:
    """So many rounds of so many seconds for each gateway and pace. Raises Broken."""
    done = track("two callers", rounds * len(POLICIES) * len(TIMES))
    found: Found = {(name, times): [] for name in POLICIES for times in TIMES}
    with room() as here:
        gateways = {name: _gateway(here, name) for name in POLICIES}
        for index in range(rounds):
            for name in POLICIES if index % 2 == 0 else reversed(list(POLICIES)):
                for times in TIMES:
                    found[name, times].append(asyncio.run(_turn(*gateways[name], times, seconds, index)))
                    done()
    return _findings(found)


def _gateway(here: Room, name: str) -> tuple[Child, Sequence[str]]:
    """A gateway before a worker of its own, and the tokens of its two callers."""
    limits, admission = POLICIES[name]
    worker = here.stack.enter_context(
        child(here.other_cpus, "-m", "loadtest.slow", str(AT_A_TIME), str(TAKES), log=here.log)
    )
    folder = here.folder / name
    folder.mkdir()
    config, tokens = setting.write_shared(folder, worker.address, limits, admission, ("modest", "greedy"))
    command = ("-m", "headrace", "gateway", "--config", str(config))
    return here.stack.enter_context(child(here.proxy_cpus, *command, log=here.log)), tokens


async def _turn(gateway: Child, tokens: Sequence[str], times: int, seconds: float, seed: int) -> Turn:
    modest, greedy = (
        Pace(gateway.address, bearer(token), rate, seconds * (1 + _WARM), seconds * _WARM, seed)
        for token, rate in zip(tokens, (SHARE, SHARE * times), strict=True)
    )
    other = asyncio.create_task(_elsewhere(greedy))
    seen = await keep(modest)
    return Turn(seen, await other)


async def _elsewhere(pace: Pace) -> Seen:
    """The same in a process of its own: a caller must not be slow because another is busy. Raises Broken."""
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "loadtest.pace", stdin=pipe, stdout=pipe, limit=2**26
    )
    try:
        told, _ = await process.communicate(json.dumps(asdict(pace)).encode() + b"\n")
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    if process.returncode:
        raise Broken(f"the other caller ended with status {process.returncode}")
    return Seen(**json.loads(told))


def _findings(found: Found) -> Findings:
    summaries = {name: _summary(found, name) for name in POLICIES}
    return Findings(
        [],
        [
            Bars(f"the other calls {times} x its share", "modest caller's p99, ms", _p99s(found, times))
            for times in TIMES
        ],
        [_table(found)],
        {"fairness": summaries},
        [_note(name, summary) for name, summary in summaries.items()],
    )


def _p99s(found: Found, times: int) -> Mapping[str, float]:
    return {name: 1e3 * median(_p99(turn.modest) for turn in found[name, times]) for name in POLICIES}


def _p99(seen: Seen) -> float:
    """Of all calls that were let in; one that was given up took at least so long."""
    return quantiles([*seen.answered, *seen.late], n=100)[98]


def _summary(found: Found, name: str) -> Mapping[str, float | None]:
    few, many = TIMES
    moved = [
        _p99(more.modest) / _p99(less.modest) for less, more in zip(found[name, few], found[name, many], strict=True)
    ]
    refused = [took for turn in found[name, many] for took in turn.greedy.refused]
    return {
        "moved": median(moved),
        "least": min(moved),
        "most": max(moved),
        "refused_p99": quantiles(refused, n=100)[98] if len(refused) > 1 else None,
        "modest_refused": sum(len(turn.modest.refused) for turn in found[name, many]),
        "failed": sum(turn.modest.failed + turn.greedy.failed for times in TIMES for turn in found[name, times]),
    }


def _note(name: str, summary: Mapping[str, float | None]) -> str:
    moved = f"{summary['moved']:.2f} ({summary['least']:.2f} to {summary['most']:.2f})"
    said = f"{name}: the other's 20 x moves the modest caller's p99 to {moved} times what it is"
    if name == "no limits":
        return f"{said}."
    within = "is met" if (summary["moved"] or 0) <= AIM else "is missed"
    soon = summary["refused_p99"]
    refusals = f"; refusals come within {1e3 * soon:.0f} ms (p99)" if soon is not None else ""
    return f"{said}; the aim of {AIM:g} {within}{refusals}."


def _table(found: Found) -> Table:
    made = Table(title=_TITLE, box=SIMPLE_HEAD, show_edge=False, pad_edge=False)
    for heading in ("gateway", "other's pace", "p50 ms", "p99 ms", "refused", "late", "other: answered/s", "refused/s"):
        made.add_column(heading, justify="left" if heading == "gateway" else "right")
    for (name, times), turns in found.items():
        modest = [took for turn in turns for took in (*turn.modest.answered, *turn.modest.late)]
        answered, refused = (sum(len(getattr(turn.greedy, what)) for turn in turns) for what in ("answered", "refused"))
        share = sum(len(turn.greedy.answered) + len(turn.greedy.refused) + len(turn.greedy.late) for turn in turns)
        each = SHARE * times / max(1, share)
        made.add_row(
            name,
            f"{times} x",
            f"{1e3 * median(modest):.1f}",
            f"{1e3 * median(_p99(turn.modest) for turn in turns):.1f}",
            f"{sum(len(turn.modest.refused) for turn in turns)}",
            f"{sum(len(turn.modest.late) for turn in turns)}",
            f"{answered * each:.0f}",
            f"{refused * each:.0f}",
        )
    return made
