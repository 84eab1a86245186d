"""`headrace mesh`. Law: a command here reads its arguments and says what came of it; the work is the mesh package's."""

from __future__ import annotations

import typer

from headrace.commands import plain
from headrace.commands.mesh.explain import explain
from headrace.commands.mesh.render import render
from headrace.commands.mesh.shift import shift
from headrace.commands.mesh.status import status
from headrace.commands.mesh.up import up
from headrace.commands.mesh.xds import xds

app = typer.Typer(cls=plain.Group, help="Istio's resources, and what they mean to Envoy.")
for _command in (up, render, shift, status, explain, xds):
    app.command(cls=plain.Command)(_command)


@app.callback()
def _group() -> None:
    pass
