"""`headrace worker`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from headrace.commands import parse
from headrace.failure import CommandError
from protos.log_settings import Form


def worker(  # noqa: PLR0913 - a command's options
    *,
    repository: Annotated[
        Path, typer.Option(exists=True, file_okay=False, help="A model repository, laid out as Triton's.")
    ],
    listen: Annotated[str, typer.Option(metavar="HOST:PORT", parser=parse.address)] = "127.0.0.1:8001",
    otlp: Annotated[
        str | None, typer.Option(metavar="URL", help="Where spans, metrics and log lines go, by OTLP/gRPC.")
    ] = None,
    service: Annotated[
        str, typer.Option(help="The service name in traces, metrics and log lines.")
    ] = "headrace-worker",
    slow: Annotated[
        str, typer.Option(metavar="DURATION", help="From which a call's span is kept, sampled or not.")
    ] = "1s",
    logs: Annotated[bool, typer.Option("--logs/--no-logs", help="Whether log lines go there, too.")] = True,
    log_format: Annotated[Form, typer.Option(help="How log lines look; auto: JSON, but text on a terminal.")] = "auto",
    drain: Annotated[str, typer.Option(metavar="DURATION", help="How long running calls may take to finish.")] = "30s",
    metrics: Annotated[
        str | None,
        typer.Option(metavar="HOST:PORT", parser=parse.address, help="Serve /metrics, /healthz and /readyz over HTTP."),
    ] = None,
) -> int:
    """Serve a model repository with ONNX Runtime, over the Open Inference Protocol."""
    patience, long = parse.seconds(drain, "--drain"), parse.seconds(slow, "--slow")
    from workers import server  # noqa: PLC0415 - gRPC
    from workers.errors import StartError  # noqa: PLC0415

    try:
        return server.run(
            server.Options(
                *(repository, listen, otlp, service, long, patience),
                logs=logs,
                log_format=log_format,
                metrics=metrics,
            )
        )
    except StartError as error:
        raise CommandError(str(error)) from None
