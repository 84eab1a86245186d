"""A configuration that changes, taken. Law: decisions change at once, and what is carried when its copies are found.

So a grant that is taken away waits for nothing, and the lane is sent to no copy of which its Envoy does not know.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import logging
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from typing import Final

from gateway.in_force import Built, InForce
from gateway.lane import Door
from gateway.live import Source, changed, follow
from gateway.settings import Settings

log = logging.getLogger("headrace.gateway")

_FORGOTTEN: Final = 1.0  # seconds after which nothing is carried any more by what was in force before
_AGAIN: Final = 1.0  # seconds

Changes = Callable[[InForce, Built, Door | None], Coroutine[None, None, None]]
"""Has every change of the settings in force, until cancelled."""


@contextlib.asynccontextmanager
async def followed(changes: Changes | None, in_force: InForce, built: Built, door: Door | None) -> AsyncIterator[None]:
    """While inside, have the changes in force."""
    if changes is None:
        yield
        return
    following = asyncio.create_task(changes(in_force, built, door))
    try:
        yield
    finally:
        await _ended(following)


def of_file(source: Source) -> Changes:
    """Every good change of the file."""
    return functools.partial(_follow, source)


async def _follow(source: Source, in_force: InForce, built: Built, door: Door | None) -> None:
    room = in_force.settings.largest
    findable, placing = [in_force.settings], contextlib.AsyncExitStack()

    async def take(found: Settings) -> None:
        settings, waiting = changed(in_force.settings, found, room)
        if waiting:
            log.warning("changed in the configuration, but takes a restart: %s", ", ".join(waiting))
        if settings == in_force.settings:
            return
        in_force.take(settings, built, teaches=door is None)
        log.info("the configuration has changed, and is in force")
        await placing.aclose()  # of what was there before
        if door is not None:
            door.tell(settings, teaches=False)
            placing.push_async_callback(_ended, asyncio.create_task(_place(door, settings, findable, in_force, built)))

    async with placing:
        await follow(source, take, in_force.refuse)


async def _place(door: Door, settings: Settings, findable: list[Settings], in_force: InForce, built: Built) -> None:
    """Have the door find the copies, too; then the lane is taught; then have it forget what is gone."""
    findable.append(settings)
    await _until_found(door, findable)
    in_force.teach(built)
    door.tell(settings, teaches=True)
    await asyncio.sleep(_FORGOTTEN)
    findable[:] = [settings]
    await _until_found(door, findable)


async def _until_found(door: Door, findable: Sequence[Settings]) -> None:
    while True:
        try:
            await door.find(*findable)
        except Exception as error:  # noqa: BLE001 - whatever it is, the lane must be taught again
            log.warning("where copies are cannot be told to the Envoy in front: %s; it is tried again", error)
            await asyncio.sleep(_AGAIN)
        else:
            return


async def _ended(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
