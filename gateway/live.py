"""The configuration while the gateway runs. Law: in force is the last that was good, and one change is one step.

The file is looked at every so often. Grants, models and endpoints are taken as they are now; what the process itself
was built on stays as it was, which is told.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from gateway.settings import Settings, SettingsError, load

log = logging.getLogger("headrace.gateway")

_LOOK: Final = 0.2  # seconds between looks at the file
_FIXED: Final = ("listen", "issuers", "mesh", "telemetry", "audit")

_AGAIN: Final = 2.0  # seconds after which what could not be taken is tried again

Mark = tuple[int, int, int, int]


@dataclass(frozen=True)
class Source:
    """Where the settings come from: the file, with the environment's laid over."""

    path: Path
    environ: Mapping[str, str]

    def load(self) -> Settings:
        """The settings as they are there now. Raises SettingsError."""
        return load(self.path, self.environ)

    def mark(self) -> Mark | None:
        """What is another when the file is; None while it is not there, as between two versions of it."""
        try:
            found = self.path.stat()
        except OSError:
            return None
        return found.st_ino, found.st_mtime_ns, found.st_ctime_ns, found.st_size


async def follow(
    source: Source, take: Callable[[Settings], Awaitable[None]], refused: Callable[[bool], None] = lambda _refused: None
) -> None:
    """Have every good change of the file taken, until cancelled; `refused` is told whether the file as it is can be.

    The first look takes what it finds, too: the file may have changed since it was read. What cannot be taken is told
    once, and tried again: what it names may come later.
    """
    seen: Mark | None = None
    last: Mark | None = None
    told = ""
    while True:
        await asyncio.sleep(_LOOK)
        before, last = last, await asyncio.to_thread(source.mark)
        if last is None or last == seen or last != before:
            continue  # nothing new, or it is still being written
        try:
            await take(await asyncio.to_thread(source.load))
        except Exception as error:
            if str(error) != told:
                unforeseen = None if isinstance(error, SettingsError | OSError) else error
                log.error(  # noqa: TRY400
                    "the new configuration cannot be used; the one before stays in force: %s",
                    "; ".join(str(error).splitlines()),
                    exc_info=unforeseen,
                )
            told = str(error)
            refused(True)  # noqa: FBT003 - a value
            await asyncio.sleep(_AGAIN - _LOOK)
        else:
            if told:
                log.info("the configuration can be used again")
            seen, told = last, ""
            refused(False)  # noqa: FBT003 - a value


def changed(now: Settings, found: Settings, room: int) -> tuple[Settings, tuple[str, ...]]:
    """What of the found settings can be in force in a process that has others now, and what takes a restart.

    `room`: bytes of the largest message that the process was built for.
    """
    kept = {name: getattr(now, name) for name in _FIXED}
    waiting = [name for name in _FIXED if getattr(found, name) != kept[name]]
    way = [name for name in ("mode", "proxy") if getattr(found.upstream, name) != getattr(now.upstream, name)]
    if way:  # models and endpoints were written for that
        waiting += [*(f"upstream.{name}" for name in way), "models", "upstream.endpoints"]
        kept |= {"upstream": now.upstream, "models": now.models}
    elif found.largest > room:
        waiting.append("models.max_request (messages larger than any model took are refused by gRPC itself)")
    return found.model_copy(update=kept), tuple(waiting)
