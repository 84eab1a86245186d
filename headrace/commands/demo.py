"""`headrace demo`."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from headrace.console import Console, busy
from headrace.failure import extra


def demo(
    stay: Annotated[
        bool | None,
        typer.Option(
            "--stay/--once", metavar="", help="Stay up after the tour, or end. Without either: stay on a terminal."
        ),
    ] = None,
    mesh: Annotated[
        bool | None,
        typer.Option(
            "--mesh/--no-mesh", metavar="", help="With sidecars, or without. Without either: if Envoy is there."
        ),
    ] = None,
) -> int:
    """Train two models, serve them behind a gateway, call them, and show it all.

    Everything runs on this machine, on free ports of the loopback; nothing is left behind.
    """
    console = Console()
    with busy(console, "Loading"), extra("demo", "demo"):
        from headrace.demo.run import run  # noqa: PLC0415 - scikit-learn takes seconds
        from headrace.demo.show import program_name  # noqa: PLC0415 - the same
    return run(
        console,
        program_name(sys.argv[0]),
        stay=sys.stdout.isatty() if stay is None else stay,
        mesh=_can_mesh(console) if mesh is None else mesh,
    )


def _can_mesh(console: Console) -> bool:
    """Whether this machine can run a mesh; if not, it is told why."""
    from mesh.local.binary import find  # noqa: PLC0415 - pydantic
    from mesh.local.failure import MeshError  # noqa: PLC0415

    try:
        find(None)
    except MeshError as error:
        console.print(f"without sidecars: {error}", style="dim")
        return False
    return True
