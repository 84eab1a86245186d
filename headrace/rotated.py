"""The access log, as the Envoy in front has it. Law: a file that is moved or full costs lines at most, and no call.

Envoy holds a file open until it is told, and starts with no log that it cannot open.
"""

from __future__ import annotations

import asyncio
import logging
import os
import time
from dataclasses import replace
from pathlib import Path
from typing import Final

import aiohttp

from mesh.envoy.admin import Admin, UnreachableError
from mesh.express.front import Front
from protos.complaints import Complaints

log = logging.getLogger("headrace.gateway.express")

_LOOK: Final = 1.0  # seconds between looks
_FAILED: Final = "filesystem.write_failed"


def openable(made: Front) -> Front:
    """The same, without its access log where that cannot be opened."""
    if made.access_log is None:
        return made
    try:
        _mark(made.access_log.path)
    except OSError as error:
        log.warning("the Envoy in front starts without an access log: %s", error)
        return replace(made, access_log=None)
    return made


async def followed(path: Path, admin: Admin, session: aiohttp.ClientSession) -> None:
    """Have the Envoy write to the file that is there now, and tell what it could not write; until cancelled."""
    complaints = Complaints(log, time.monotonic)
    seen: tuple[int, int] | None = None
    failed = 0
    while True:
        try:
            found = await asyncio.to_thread(_mark, path)
            if found != seen:
                async with session.post(f"http://{admin.address}/reopen_logs"):
                    seen = found
            before, failed = failed, int((await admin.statistics([_FAILED])).get(_FAILED, 0))
            if failed > before:
                complaints.warn("lost", f"lines of the access log are lost: the Envoy in front cannot write {path}")
        except OSError as error:
            complaints.warn("gone", f"the access log cannot be opened: {error}")
        except (UnreachableError, aiohttp.ClientError, TimeoutError):
            pass  # which others look after
        await asyncio.sleep(_LOOK)


def _mark(path: Path) -> tuple[int, int]:
    """What is another when the file is; one that is gone is made, as Envoy could not open it otherwise."""
    file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o640)
    try:
        found = os.fstat(file)
    finally:
        os.close(file)
    return found.st_dev, found.st_ino
