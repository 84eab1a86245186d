"""`headrace mesh status`."""

from __future__ import annotations

import asyncio
import json
import os
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NamedTuple

import typer

from headrace.commands import parse
from headrace.commands.output import Output
from headrace.failure import CommandError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from rich.console import ConsoleOptions, Group

    from mesh.local.state import Beside
    from mesh.status.rows import Row


def status(
    model: Annotated[str | None, typer.Argument(metavar="[MODEL]", help="One model; else all.")] = None,
    folder: Annotated[
        Path, typer.Option("--dir", file_okay=False, metavar="DIR", help="The folder whose mesh runs on this machine.")
    ] = Path("istio"),
    admin: Annotated[
        str | None,
        typer.Option(
            metavar="HOST:PORT",
            parser=parse.address,
            help="Or any gateway's Envoy, by its admin port (Istio's: 15000).",
        ),
    ] = None,
    *,
    over: Annotated[str, typer.Option(metavar="DURATION", help="How long to count before telling.")] = "2s",
    watch: Annotated[bool, typer.Option("--watch", metavar="", help="Tell again and again, until Ctrl-C.")] = False,
    output: Annotated[Output, typer.Option("--output", "-o")] = Output.TABLE,
) -> int:
    """Show what flows: per model and version the weight asked for, the share it really gets, failures and latencies.

    From the own statistics of the gateway's Envoy. A share counts every call of the version, pinned ones too.
    """
    from mesh.envoy.admin import UnreachableError  # noqa: PLC0415 - aiohttp
    from mesh.local.failure import MeshError  # noqa: PLC0415

    if not (seconds := parse.seconds(over, "--over")):
        raise typer.BadParameter("in no time nothing is counted", param_hint="--over")
    try:
        where = Where(admin) if admin else _gateways(folder)
        asyncio.run((_watched if watch else _once)(where, model, seconds, output))
    except (MeshError, UnreachableError) as error:
        raise CommandError(str(error)) from None
    return 0


class Where(NamedTuple):
    """The admin pages that are read, and, on this machine, the processes of the mesh."""

    admin: str
    workloads: tuple[Beside, ...] = ()


def _gateways(folder: Path) -> Where:
    """The gateway's sidecar in the running mesh of a folder. Raises MeshError."""
    from mesh.local.failure import MeshError  # noqa: PLC0415
    from mesh.local.state import find  # noqa: PLC0415

    state = find(folder, os.environ)
    if state.bootstrap:
        raise MeshError(f"{state.gateway} has no sidecar that counts its calls")
    for one in state.workloads:
        if f"{one.namespace}/{one.name}" == state.gateway:
            return Where(one.admin, state.workloads)
    raise MeshError(f"in the mesh of {folder} no workload is the gateway; name an Envoy with --admin")


async def _once(where: Where, model: str | None, seconds: float, output: Output) -> None:
    from headrace.console import Console, busy  # noqa: PLC0415

    console = Console()
    with busy(console, f"Counting for {seconds:g} s"):
        found = await anext(_looks(where.admin, model, seconds))
    if output is Output.JSON:
        typer.echo(_as_json(found))
    else:
        console.print(await _drawn(where, found, console.options))


async def _watched(where: Where, model: str | None, seconds: float, output: Output) -> None:
    from rich.live import Live  # noqa: PLC0415

    from headrace.console import Console, live  # noqa: PLC0415

    console = Console()
    if output is Output.JSON or not live(console):
        async for found in _looks(where.admin, model, seconds):
            if output is Output.JSON:
                typer.echo(_as_json(found))
            else:
                console.print(await _drawn(where, found, console.options))
        return
    with Live(console=console, auto_refresh=False, transient=True) as shown:
        async for found in _looks(where.admin, model, seconds):
            shown.update(await _drawn(where, found, console.options), refresh=True)


async def _drawn(where: Where, found: Sequence[Row], options: ConsoleOptions) -> Group:
    """What flows, and which processes are not there: to Envoy a copy is one that is configured."""
    from rich.console import Group  # noqa: PLC0415 - only for people
    from rich.text import Text  # noqa: PLC0415 - the same

    from headrace.flow import flow  # noqa: PLC0415
    from mesh.local.listening import nobody_at  # noqa: PLC0415

    silent = await nobody_at(where.workloads)
    return Group(flow(found, options), *(Text(f"nobody listens at {place}", "yellow") for place in silent))


async def _looks(address: str, model: str | None, seconds: float) -> AsyncIterator[Sequence[Row]]:
    """The rows of each stretch of so many seconds, without end."""
    import aiohttp  # noqa: PLC0415

    from mesh.envoy.admin import Admin  # noqa: PLC0415
    from mesh.status.admin import looked_at  # noqa: PLC0415
    from mesh.status.rows import rows  # noqa: PLC0415

    async with aiohttp.ClientSession() as session:
        envoy = Admin(session, address)
        before = await looked_at(envoy)
        if model is not None and model not in {one.name for one in before.models}:
            there = ", ".join(one.name for one in before.models) or "none"
            raise CommandError(f"the Envoy at {address} routes for no model {model}; it does for {there}")
        while True:
            await asyncio.sleep(seconds)
            after = await looked_at(envoy)
            yield [row for row in rows(before, after) if model in (None, row.model)]
            before = after


def _as_json(found: Sequence[Row]) -> str:
    return json.dumps([asdict(row) for row in found])
