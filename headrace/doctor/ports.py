"""The ports that the gateway would take. Law: each is only tried, and who has one that is taken is asked.

A port that is taken may be this very gateway's: its admin page says so.
"""

from __future__ import annotations

import asyncio
import errno
import os
import socket
from collections.abc import AsyncIterator, Iterator
from typing import Final

import aiohttp

from gateway.settings import Listen
from headrace.doctor.finding import Finding, Level
from headrace.listening import tried

_AREA: Final = "ports"
_LONGEST: Final = 256  # bytes of an answer
_READY: Final = {(200, "ready"), (503, "not ready")}


async def ports(listen: Listen, session: aiohttp.ClientSession) -> AsyncIterator[Finding]:
    """Whether each can be taken, and who has it where it cannot."""
    addresses = list(_addresses(listen))
    codes = await asyncio.gather(
        *(asyncio.to_thread(_taking, address) for _, address in addresses)
    )  # names may be slow
    taken = any(code == errno.EADDRINUSE for code, _ in codes)
    ready = await _ready(listen.admin, session) if taken and listen.admin else None
    for (key, address), (code, why) in zip(addresses, codes, strict=True):
        yield _finding(f"{address} ({key})", key, code, why, ready=ready)


def _addresses(listen: Listen) -> Iterator[tuple[str, str]]:
    yield "listen.address", listen.address
    if listen.admin is not None:
        yield "listen.admin", listen.admin
    if listen.express == "external":
        yield "listen.asked", listen.asked


def _finding(what: str, key: str, code: int | None, why: str, *, ready: str | None) -> Finding:
    if not why:
        return Finding(_AREA, "ok", f"{what} can be taken")
    if code != errno.EADDRINUSE:
        do = f"choose another {key}" + (", or let the user take low ports" if code == errno.EACCES else "")
        return Finding(_AREA, "error", f"{what} cannot be taken: {why}", do)
    if ready is None:
        do = f"end who has it (ss -ltnp tells), or choose another {key}"
        return Finding(_AREA, "error", f"somebody listens at {what}, and no /readyz says that it is headrace", do)
    level: Level = "ok" if ready == "ready" else "warning"
    do = "" if ready == "ready" else "its log says more"
    return Finding(_AREA, level, f"somebody listens at {what}: headrace, says /readyz, {ready}", do)


def _taking(address: str) -> tuple[int | None, str]:
    """Why the address cannot be taken, by number and in words; no words where it can."""
    try:
        tried(address)
    except OSError as error:
        code = None if isinstance(error, socket.gaierror) else error.errno
        return code, os.strerror(code) if code else str(error.strerror or error)
    return None, ""


async def _ready(admin: str, session: aiohttp.ClientSession) -> str | None:
    """What headrace says at its admin address: `ready`, or `not ready: WHY`; None where it is not headrace."""
    try:
        async with session.get(f"http://{admin}/readyz", allow_redirects=False) as response:
            said = (await response.content.read(_LONGEST)).decode(errors="replace").strip()
    except (aiohttp.ClientError, OSError):  # TimeoutError is one
        return None
    return said if (response.status, said.partition(":")[0]) in _READY else None
