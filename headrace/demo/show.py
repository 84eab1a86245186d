"""What the demo shows. Law: drawing only; what is drawn was checked before."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table
from rich.text import Text

from headrace.demo.config import AUDIT, CANARY_SHARE
from headrace.demo.digits import MODEL
from headrace.demo.state import State
from headrace.demo.tour import AT_ONCE, Rejection, Score
from headrace.traces.spans import Span
from headrace.traces.waterfall import Waterfall
from protos.contract import SERVICE

if TYPE_CHECKING:  # it is on the stage, which shows its steps itself
    from headrace.demo.mesh_tour import Outage, Shift, Visitor


def title(console: Console, words: str) -> None:
    """A heading of the tour."""
    console.print()
    console.print(words, style="bold")


def done(console: Console, words: str, detail: str = "") -> None:
    """A step that has done what it says."""
    mark = "ok" if console.options.ascii_only else "✓"
    console.print(Text.assemble((mark, "green"), " ", words, (f"  {detail}" if detail else "", "dim")))


def scores(console: Console, found: Sequence[Score]) -> None:
    """Accuracy by version."""
    table = _table(
        "version", "trained as", right=("read right", "accuracy", "local run", f"median ms,\n{AT_ONCE} at a time")
    )
    for score in found:
        table.add_row(
            score.version,
            score.how,
            f"{score.right} of {score.pictures}",
            f"{score.accuracy:.1%}",
            f"{score.local:.1%}",
            f"{score.median * 1000:.1f}",
        )
    console.print(table)


def split(console: Console, reached: Mapping[str, int]) -> None:
    """Where the calls went that pinned no version."""
    calls = sum(reached.values())
    first, second = (reached.get(version, 0) for version in ("1", "2"))
    console.print(f"{calls} that named no version: {first} to 1, {second} to 2 (canary, {CANARY_SHARE}% of traffic)")


def lanes(console: Console, found: Mapping[str, int]) -> None:
    """How many calls Envoy carried by itself."""
    express, python = (found.get(lane, 0) for lane in ("express", "python"))
    if express:
        console.print(f"express lane: {express} carried by Envoy alone; Python decided {python}, of which it learnt")


def shift(console: Console, found: Shift) -> None:
    """Weights that were changed while calls flowed."""
    done(console, f"weights shifted to 50/50, in force after {found.took:.2f} s; {found.after:.0%} went to version 2")
    _none_failed(console, found.calls, found.slowest)


def outage(console: Console, found: Outage, what: str, back: float | None = None) -> None:
    """A copy that went bad."""
    returned = f", back {back:.1f} s after it woke" if back is not None else ""
    done(console, f"{found.copy} {what}: ejected after {found.ejected_after:.2f} s{returned}")
    _none_failed(console, found.calls, found.slowest)


def _none_failed(console: Console, calls: int, slowest: float) -> None:
    console.print(f"  {calls} calls, none failed, the slowest took {slowest:.2f} s", style="dim")


def visitors(console: Console, found: Sequence[Visitor]) -> None:
    """Who calls a worker, and what comes of it."""
    table = _table("caller", "status", "what it reads")
    for visitor in found:
        table.add_row(visitor.who, visitor.status, visitor.words.partition(";")[0])
    console.print(table)


def rejections(console: Console, found: Sequence[Rejection]) -> None:
    """Who was refused, and in which words."""
    table = _table("call", "reason", "what the caller reads")
    for rejection in found:
        table.add_row(rejection.case, rejection.refused.reason, rejection.refused.text)
    console.print(table)


def trace(console: Console, spans: Sequence[Span]) -> None:
    """One call's spans."""
    console.print(Waterfall(spans))


def stopping(console: Console) -> None:
    """A signal came, and is heard."""
    console.print("Stopping ...", style="dim")


def next_steps(console: Console, state: State, program: str, resources: Path | None, *, stay: bool) -> None:
    """The commands to try; printed as they are, so that they can be copied."""
    title(console, "Try next" if stay else "Try next, beside a demo that stays up")
    if not stay:
        console.print("It shows them with its own SAMPLES, GATEWAY, ADMIN, AUDIT and ISTIO filled in.", style="dim")
    samples, gateway, admin = (state.samples, state.gateway, state.admin) if stay else ("SAMPLES", "GATEWAY", "ADMIN")
    rpc, authorization = f"{SERVICE}/ModelInfer", f'"authorization: Bearer $({program} token)"'
    istio = resources if stay else "ISTIO"
    audit = Path(state.samples).with_name(AUDIT) if stay else "AUDIT"
    mesh = [
        f"{program} mesh status --dir {istio} --watch",
        f"{program} mesh shift {MODEL} 1=0 2=100 --dir {istio}",
        f"{program} mesh explain {MODEL} --version 2 --dir {istio}",
    ]
    for command in (
        *([] if stay else [f"{program} demo --stay"]),
        f"{program} token",
        f"{program} infer {MODEL} {samples}/digit-7.png",
        f"grpcurl -plaintext -H {authorization} -d @ {gateway} {rpc} < {samples}/digit-7.json",
        f"curl http://{admin}/readyz",
        f"{program} trace",
        f"{program} top",
        f"{program} audit show {audit}",
        *(mesh if resources else []),
    ):
        console.print(f"  {command}", style="cyan", soft_wrap=True, highlight=False, markup=False)


def program_name(argv0: str) -> str:
    """What to type for this program: as it was called, in full where the shell would find another, or none."""
    path = Path(argv0)
    if path.name == "__main__.py":
        return f"{sys.executable} -m headrace"
    found = shutil.which(path.name)
    if found is not None and os.path.realpath(found) == os.path.realpath(argv0):
        return path.name
    return argv0


def _table(*left: str, right: Sequence[str] = ()) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0), show_edge=False, header_style="dim")
    for name in left:
        table.add_column(name)
    for name in right:
        table.add_column(name, justify="right")
    return table
