"""`headrace gateway`."""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from headrace import configured
from headrace.failure import CommandError

if TYPE_CHECKING:
    from gateway.lane import Front
    from gateway.settings import Settings

_LONGEST: Final = 64  # bytes


def gateway(
    config: Annotated[Path, typer.Option("--config", "-c", exists=True, dir_okay=False, help="headrace.yaml")],
) -> int:
    """Run the gateway: verify who calls, check what they may do, and pass the call on.

    SIGTERM drains: health turns NOT_SERVING and running calls finish. Changes of grants, models and endpoints in the
    configuration are taken up within a second.
    """
    from gateway import server  # noqa: PLC0415 - gRPC
    from gateway.errors import StartError  # noqa: PLC0415
    from gateway.following import of_file  # noqa: PLC0415
    from gateway.live import Source  # noqa: PLC0415

    source = Source(config, os.environ)
    with configured.usable():
        loaded = source.load()
    try:
        with tempfile.TemporaryDirectory(prefix="headrace-gateway-", dir=_short()) as folder:
            return server.run(loaded, _front(loaded, Path(folder)), of_file(source))
    except StartError as error:
        raise CommandError(str(error)) from None


def _short() -> str | None:
    """Where folders are made whose sockets may have names: of 107 bytes at most (unix(7))."""
    return "/tmp" if len(os.fsencode(tempfile.gettempdir())) > _LONGEST else None  # noqa: S108 - a folder of our own in it


def _front(loaded: Settings, folder: Path) -> Front | None:
    """The Envoy in front, where there is to be one."""
    if loaded.front == "none":
        return None
    needs = "listen.processes is above 1" if loaded.listen.processes > 1 else "listen.express is on"
    if sys.platform != "linux":
        if loaded.front == "needed":
            raise CommandError(f"{needs}, but the Envoy in front runs on Linux alone")
        return None
    from headrace.express import front  # noqa: PLC0415
    from mesh.local.binary import find  # noqa: PLC0415
    from mesh.local.failure import MeshError  # noqa: PLC0415

    try:
        return front(loaded, folder, find(None))
    except MeshError as error:
        if loaded.front == "needed":
            raise CommandError(f"{needs}, but {error}") from None
    return None
