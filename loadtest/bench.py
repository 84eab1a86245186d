"""`python -m loadtest.bench`: what things cost. Law: it measures and judges nothing but failed calls.

`gateway` is measured against the least that grpc.aio can do as a proxy (`loadtest.bare`), in the same rounds on one
processor; `mesh` (`loadtest.mesh`) by itself. `express`, `peers` and `scale` are the modules of these names.
Exit codes: 0 measured, 1 calls failed or something did not start, 2 usage.
"""

from __future__ import annotations

import json
import signal
import sys
from collections.abc import Callable
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import Progress

from loadtest import express as express_lane
from loadtest import fairness as two_callers
from loadtest import pair, plot, watched
from loadtest import peers as others
from loadtest import scale as growth
from loadtest.children import Broken
from loadtest.contest import Effort
from loadtest.findings import Findings, Track
from loadtest.mesh import Round, measure_mesh, mesh_table
from loadtest.output import Output, bar
from loadtest.rounds import Plan

Rounds = Annotated[int, typer.Option(min=1, help="How often each proxy is measured with each size.")]
Seconds = Annotated[float, typer.Option(min=0.05, help="Wall clock of each measurement under load.")]
Concurrency = Annotated[int, typer.Option(min=1, max=100, help="Calls open at once.")]
Form = Annotated[Output, typer.Option("--output", "-o")]
Folder = Annotated[Path | None, typer.Option(file_okay=False, help="Write NAME.json and NAME.svg there, too.")]

_WIDE = 140  # columns, where there is no terminal to ask

app = typer.Typer(add_completion=False, no_args_is_help=True)


@app.command()
def gateway(
    rounds: Rounds = 7, seconds: Seconds = 2.0, concurrency: Concurrency = 16, output: Form = Output.TABLE
) -> None:
    """Measure the Python gateway against a bare grpc.aio pass-through."""
    pair.run("gateway", Plan(rounds, seconds, concurrency), output)


@app.command()
def null(
    rounds: Rounds = 7, seconds: Seconds = 2.0, concurrency: Concurrency = 16, output: Form = Output.TABLE
) -> None:
    """Measure the bare pass-through against a second one: how far from 1 is noise."""
    pair.run("null", Plan(rounds, seconds, concurrency), output)


@app.command()
def threads(
    rounds: Rounds = 7, seconds: Seconds = 2.0, concurrency: Concurrency = 16, output: Form = Output.TABLE
) -> None:
    """Measure a pass-through on grpcio's threads (`loadtest.threads`) against the bare one."""
    pair.run("threads", Plan(rounds, seconds, concurrency), output)


@app.command()
def mesh(
    rounds: Annotated[int, typer.Option(min=1, help="How often a mesh is started.")] = 5,
    changes: Annotated[int, typer.Option(min=1, help="How often each is changed under load.")] = 10,
    output: Form = Output.TABLE,
) -> None:
    """Measure a mesh on this machine: what a sidecar holds, the time to the first answer, and to a change's effect."""
    notes = Console(stderr=True)
    try:
        with bar(notes) as progress:
            task = progress.add_task("mesh up with four workers", total=rounds)
            found: list[Round] = []
            for _ in range(rounds):
                found.append(measure_mesh(changes))
                progress.advance(task)
    except Broken as broken:
        notes.print(f"nothing measured: {broken}")
        raise typer.Exit(1) from None
    failed = sum(one.failed for one in found)
    if output is Output.JSON:
        print(json.dumps([asdict(one) for one in found], allow_nan=False))  # noqa: T201 - the result
    else:
        Console().print(mesh_table(found))
        notes.print(f"{sum(one.calls for one in found)} calls meanwhile, {failed} failed.")
    if failed:
        raise typer.Exit(1)


@app.command()
def express(rounds: Rounds = 5, seconds: Seconds = 2.0, output: Form = Output.TABLE, write: Folder = None) -> None:
    """Measure the express lane against a bare Envoy hop."""
    conclude("express", partial(express_lane.measured, Effort(rounds, seconds)), output, write)


@app.command()
def peers(
    rounds: Rounds = 5,
    seconds: Seconds = 2.0,
    ray_python: Annotated[
        Path | None, typer.Option(exists=True, dir_okay=False, help="The Python of an environment that has ray[serve].")
    ] = None,
    output: Form = Output.TABLE,
    write: Folder = None,
) -> None:
    """Measure both lanes against what others would put there."""
    measured = partial(others.measured, Effort(rounds, seconds), ray_python=ray_python)
    conclude("peers", measured, output, write)


@app.command()
def scale(
    rounds: Rounds = 5,
    seconds: Seconds = 1.0,
    most: Annotated[int, typer.Option(min=100, help="Models and connections, at most.")] = 10_000,
    largest: Annotated[int, typer.Option(min=100, help="Bytes of a message, at most.")] = 64_000_000,
    output: Form = Output.TABLE,
    write: Folder = None,
) -> None:
    """Measure ours with more models and callers, more connections, larger messages, more processes."""
    measured = partial(growth.measured, Effort(rounds, seconds), most=most, largest=largest)
    conclude("scale", measured, output, write)


@app.command()
def fairness(
    rounds: Rounds = 5,
    seconds: Annotated[float, typer.Option(min=1, help="Wall clock of each turn.")] = 8.0,
    output: Form = Output.TABLE,
    write: Folder = None,
) -> None:
    """Measure what one caller of a model feels of another that calls twenty times as often, with limits and without."""
    conclude("fairness", partial(two_callers.measured, rounds, seconds), output, write)


@app.command()
def telemetry(rounds: Rounds = 5, seconds: Seconds = 4.0, output: Form = Output.TABLE, write: Folder = None) -> None:
    """Measure both lanes before our worker with all of telemetry on, and with none of it."""
    conclude("telemetry", partial(watched.measured, Effort(rounds, seconds)), output, write)


def conclude(name: str, measured: Callable[[Track], Findings], output: Output, write: Path | None) -> None:
    """Measure, print and write. Raises typer.Exit with 1 where calls failed or something did not start."""
    notes = Console(stderr=True)
    try:
        if write is not None:
            plot.needed()
        with bar(notes) as progress:
            findings = measured(_track(progress))
    except Broken as broken:
        notes.print(f"nothing measured: {broken}")
        raise typer.Exit(1) from None
    if output is Output.JSON:
        print(findings.for_scripts())  # noqa: T201 - the result
    else:
        for table in findings.for_people():
            Console(width=None if sys.stdout.isatty() else _WIDE).print(table)
    for remark in findings.remarks():
        notes.print(remark)
    if write is not None:
        findings.write(write, name)
    if findings.failed:
        raise typer.Exit(1)


def _track(progress: Progress) -> Track:
    def begun(what: str, total: int) -> Callable[[], None]:
        return partial(progress.advance, progress.add_task(what, total=total))

    return begun


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))  # an exit ends the children, too
    app()
