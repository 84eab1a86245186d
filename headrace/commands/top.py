"""`headrace top`."""

from __future__ import annotations

import asyncio
import os
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from headrace.commands import parse
from headrace.commands.output import Output
from headrace.failure import CommandError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from rich.console import Console

    from headrace.top.watch import Asked

_ADMIN: Final = "127.0.0.1:9090"  # where a gateway's admin pages are by default


def top(
    gateway: Annotated[
        str | None,
        typer.Option(
            metavar="URL",
            show_default=f"the demo that stays, else {_ADMIN}",
            help="The gateway's admin page (listen.admin).",
        ),
    ] = None,
    mesh: Annotated[
        list[str] | None,
        typer.Option(
            metavar="HOST:PORT",
            parser=parse.address,
            show_default=False,
            help="Envoy's admin page of the gateway's sidecar, for copies, ejections and breakers; may be repeated.",
        ),
    ] = None,
    model: Annotated[
        list[str] | None,
        typer.Option(metavar="MODEL", show_default=False, help="Only these; * stands for anything; may be repeated."),
    ] = None,
    *,
    interval: Annotated[str, typer.Option(metavar="DURATION", help="How long to count before telling.")] = "1s",
    count: Annotated[
        int | None,
        typer.Option(
            min=1, metavar="NUMBER", show_default="without end on a terminal, else 1", help="How many times to tell."
        ),
    ] = None,
    output: Annotated[Output, typer.Option("--output", "-o")] = Output.TABLE,
) -> int:
    """Show what a gateway is doing: models, versions, rates, failures, latencies, refusals, admission, copies.

    Drawn anew on a terminal until Ctrl-C; elsewhere, and as JSON, told once.
    """
    if not (seconds := parse.seconds(interval, "--interval")):
        raise typer.BadParameter("in no time nothing is counted", param_hint="--interval")
    from headrace.console import Console, live  # noqa: PLC0415
    from headrace.interrupt import interruptible  # noqa: PLC0415
    from headrace.top.watch import Asked  # noqa: PLC0415 - rich, aiohttp

    console = Console()
    draws = live(console) and output is Output.TABLE
    asked = Asked(seconds, count if count or draws else 1, _wanted(model or []))
    url, envoys = where(gateway, mesh or [], os.environ)
    work = _watched(url, envoys, asked, console, output, draws=draws)
    asyncio.run(interruptible(work, lambda: None))
    return 0


async def _watched(
    url: str, envoys: Sequence[str], asked: Asked, console: Console, output: Output, *, draws: bool
) -> None:
    import aiohttp  # noqa: PLC0415

    from headrace.top import watch  # noqa: PLC0415
    from headrace.top.source import Source  # noqa: PLC0415

    async with aiohttp.ClientSession() as session:
        source = Source(session, url, envoys)
        if output is Output.JSON:
            await watch.as_json(source, asked, typer.echo)
        elif draws:
            await watch.draw(source, asked, console)
        else:
            await watch.lines(source, asked, console)


def _wanted(models: Sequence[str]) -> Callable[[str], bool] | None:
    if not models:
        return None
    return lambda name: any(fnmatchcase(name, model) for model in models)


def where(gateway: str | None, envoys: Sequence[str], environ: Mapping[str, str]) -> tuple[str, Sequence[str]]:
    """The URL of the admin page, and the Envoys: those that are named, else of the demo that stays."""
    if gateway is not None:
        return (gateway if "://" in gateway else f"http://{gateway}"), envoys
    from headrace.demo import state  # noqa: PLC0415

    try:
        demo = state.find(state.folder(environ))
    except CommandError:
        return f"http://{_ADMIN}", envoys
    return f"http://{demo.admin}", envoys or _of_mesh(Path(demo.samples).parent / "istio", environ)


def _of_mesh(folder: Path, environ: Mapping[str, str]) -> Sequence[str]:
    """The gateway's sidecar in the running mesh of a folder, if there is one."""
    from mesh.local.failure import MeshError  # noqa: PLC0415
    from mesh.local.state import find  # noqa: PLC0415

    try:
        state = find(folder, environ)
    except MeshError:
        return []
    return [one.admin for one in state.workloads if f"{one.namespace}/{one.name}" == state.gateway]
