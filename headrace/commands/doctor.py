"""`headrace doctor`."""

from __future__ import annotations

import asyncio
import importlib.metadata
import os
from pathlib import Path
from typing import Annotated

import typer

from headrace.commands.output import Output
from headrace.doctor.examine import examined, failed
from headrace.doctor.shown import as_json, as_lines


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
    return failed(findings)
