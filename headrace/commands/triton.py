"""`headrace triton`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from headrace.commands import parse
from headrace.failure import CommandError
from headrace.listening import tried
from protos.log_settings import Form


def triton(  # noqa: PLR0913 - a command's options
    *,
    repository: Annotated[
        Path, typer.Option(exists=True, file_okay=False, help="A model repository, Triton's or the worker's.")
    ],
    listen: Annotated[str, typer.Option(metavar="HOST:PORT", parser=parse.address)] = "127.0.0.1:8001",
    server: Annotated[
        Path | None, typer.Option(exists=True, dir_okay=False, help="A tritonserver; else that of the extra triton.")
    ] = None,
    otlp: Annotated[str | None, typer.Option(metavar="URL", help="Where spans go, by OTLP/HTTP.")] = None,
    service: Annotated[str, typer.Option(help="The service name in traces and log lines.")] = "headrace-triton",
    log_format: Annotated[Form, typer.Option(help="How log lines look; auto: JSON, but text on a terminal.")] = "auto",
    drain: Annotated[str, typer.Option(metavar="DURATION", help="How long running calls may take to finish.")] = "30s",
    metrics: Annotated[
        str | None, typer.Option(metavar="HOST:PORT", parser=parse.address, help="Serve metrics for Prometheus.")
    ] = None,
    more: Annotated[
        list[str] | None,
        typer.Argument(metavar="OPTION", show_default=False, help="Options of tritonserver's own, after a --."),
    ] = None,
) -> int:
    """Serve a model repository with the real Triton, set up for a gateway in front."""
    patience = parse.seconds(drain, "--drain")
    from workers.errors import StartError  # noqa: PLC0415 - gRPC
    from workers.triton import server as launcher  # noqa: PLC0415
    from workers.triton.arguments import Options  # noqa: PLC0415

    for address in filter(None, (listen, metrics)):
        try:
            tried(address)
        except OSError as error:
            raise CommandError(f"cannot listen on {address}: {error.strerror}") from None
    try:
        return launcher.run(
            Options(repository, listen, server, otlp, service, patience, metrics, tuple(more or ()), log_format)
        )
    except StartError as error:
        raise CommandError(str(error)) from None
