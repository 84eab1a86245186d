"""`headrace config`."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Annotated

import typer

from headrace import configured
from headrace.commands import plain

app = typer.Typer(cls=plain.Group, help="Work with headrace.yaml.")


@app.callback()
def _group() -> None:
    pass


@app.command(cls=plain.Command)
def schema() -> None:
    """Print the JSON schema of headrace.yaml, by which editors complete keys and mark mistakes.

    In an editor with the YAML language server: a first line `# yaml-language-server: $schema=headrace.schema.json`.
    """
    from gateway.schema import schema as made  # noqa: PLC0415 - gRPC

    typer.echo(json.dumps(made(), indent=2))


@app.command(cls=plain.Command)
def check(
    file: Annotated[Path, typer.Argument(exists=True, dir_okay=False, metavar="FILE", help="headrace.yaml")],
) -> None:
    """List every mistake in a configuration, with its line.

    Environment variables HEADRACE_SECTION__KEY count, as they do for the gateway.
    """
    from gateway import settings  # noqa: PLC0415 - gRPC

    with configured.usable():
        loaded = settings.load(file, os.environ)
    typer.echo(configured.good(file, loaded))
