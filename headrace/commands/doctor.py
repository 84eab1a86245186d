"""`headrace doctor`."""

from __future__ import annotations

import asyncio
import importlib.metadata
import os
import sys
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Annotated, Final

import typer

from headrace.commands.output import Output
from headrace.doctor.finding import Check, Finding
from headrace.doctor.packages import FindDistribution, packages
from headrace.doctor.runner import found
from headrace.doctor.shown import as_json, as_lines

_HERE: Final = Path("headrace.yaml")


def doctor(
    config: Annotated[
        Path | None,
        typer.Option("--config", "-c", exists=True, dir_okay=False, help="Else headrace.yaml, if it is here."),
    ] = None,
    output: Annotated[Output, typer.Option("--output", "-o")] = Output.TABLE,
) -> int:
    """Look at all that a gateway needs, and say what is wrong and what to do about it.

    Packages, configuration, ports, permissions, clock, issuers' keys, certificates, workers and their models, Envoy,
    GPU, disk, memory. Run it as the user who runs the gateway. Nothing is changed; only this machine and what the
    configuration names is asked. Exit code 1 where anything is an error.
    """
    findings = asyncio.run(examined(config, os.environ, importlib.metadata.distribution))
    if output is Output.JSON:
        typer.echo(as_json(findings))
    else:
        for line in as_lines(findings):
            typer.echo(line)
    return int(any(one.level == "error" for one in findings))


async def examined(
    config: Path | None, environ: Mapping[str, str], find_distribution: FindDistribution
) -> list[Finding]:
    """What every check finds; where packages lack, what can be found without them."""
    first = Check("packages", partial(packages, find_distribution, sys.version_info[:3]))
    try:
        from headrace.doctor import configuration  # noqa: PLC0415 - pydantic, aiohttp, gRPC: any may lack
        from headrace.doctor.every import Here, checks  # noqa: PLC0415
    except Exception as error:  # noqa: BLE001 - packages that do not fit together raise anything
        why = f"headrace cannot be imported: {type(error).__name__}: {error}"
        do = "put the packages right; the rest is looked at then"
        return [*await found([first]), Finding("packages", "error", why, do)]
    path = config or (_HERE if _HERE.exists() else None)
    settings, said = configuration.loaded(path, environ) if path else (None, [configuration.absent(_HERE)])
    return await found([first, Check("configuration", lambda: said), *checks(settings, Here(environ))])
