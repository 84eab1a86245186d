"""`headrace gateway`."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from headrace.failure import CommandError


def gateway(
    config: Annotated[Path, typer.Option("--config", "-c", exists=True, dir_okay=False, help="headrace.yaml")],
) -> int:
    """Run the gateway: verify who calls, check what they may do, and pass the call on.

    SIGTERM drains: health turns NOT_SERVING and running calls finish.
    """
    from gateway import server, settings  # noqa: PLC0415 - gRPC

    try:
        loaded = settings.load(config, os.environ)
    except settings.SettingsError as error:
        raise CommandError(f"the configuration cannot be used\n{error}") from None
    try:
        return server.run(loaded)
    except server.StartError as error:
        raise CommandError(str(error)) from None
