"""The Envoy in front as a process. Law: while the gateway serves there is one, at the same address.

It reads where copies are from a file, which is replaced when that changes; what else it is told stays.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import aiohttp

from gateway.errors import StartError
from gateway.settings import Settings
from headrace.counting import EVERY, Counting
from headrace.siblings import Siblings
from mesh.envoy.admin import Admin, UnreachableError
from mesh.envoy.proto import Json
from mesh.express.front import LISTENER, Front, bootstrap
from mesh.local import process
from mesh.local.files import clusters_file, put
from protos.metrics.snapshot import Snapshot

log = logging.getLogger("headrace.gateway.express")

_UP: Final = 30.0  # seconds that an Envoy has to come up
_LOOK: Final = 0.02  # seconds between looks
_AGAIN: Final = 0.5  # seconds after which one that died is replaced
_PULSE: Final = 2.0  # seconds between looks at whether it answers, and in which it must
_MOST_SILENT: Final = 3  # looks in a row that it may leave unanswered
_TAKEN: Final = 5.0  # seconds in which it should have taken a file up
_LONG: Final = 1024 * 1024  # bytes of an Envoy's log
_RUNNING: Final = "http.front.downstream_rq_active"
_WARMING: Final = "cluster_manager.warming_clusters"

Clusters = Callable[..., Sequence[Json]]
"""The clusters of any number of settings."""


@dataclass
class _Door:
    """The door, by the Envoy's admin pages."""

    address: str
    made: Front
    clusters: Clusters
    siblings: Siblings
    session: aiohttp.ClientSession
    admin: Admin
    counting: Counting | None
    open: bool = True

    async def find(self, *settings: Settings) -> None:
        """Replace the file of clusters, and wait until the Envoy has taken it up."""
        file = clusters_file(self.clusters(*settings), self.made.clusters.parent)
        put(self.made.clusters, file.text)  # on the loop: two at a time would write into one another
        wanted = {file.stat: file.version, _WARMING: "0"}
        try:
            async with asyncio.timeout(_TAKEN):
                while await self._told([*wanted]) != wanted:  # noqa: ASYNC110 - another process's work
                    await asyncio.sleep(_LOOK)
        except TimeoutError:
            log.warning("the Envoy in front has not yet taken up where copies are")

    def tell(self, settings: Settings, *, teaches: bool) -> None:
        """Behind it are further gateway processes, or none."""
        if self.counting is not None:
            self.counting.settings = settings
        self.siblings.tell(settings, teaches=teaches)

    def drain(self) -> None:
        """They drain as we do, but stay until the door is left."""
        self.siblings.drain()

    async def counted(self) -> Sequence[Snapshot]:
        """What was counted by the Envoys that have been here, and by further processes."""
        if self.counting is None:
            return ()
        carried, others = await asyncio.gather(self.counting.told(), self.siblings.counted())
        return [carried, *others]

    async def leave(self, patience: float) -> None:
        """Close it to new connections, have callers leave theirs, and wait for what runs."""
        try:
            await self._left(patience)
            await self.counted()  # for the last time
        finally:
            self.siblings.left()

    async def _left(self, patience: float) -> None:
        with contextlib.suppress(TimeoutError, UnreachableError, aiohttp.ClientError):
            async with asyncio.timeout(patience):
                url = f"http://{self.admin.address}/drain_listeners?graceful&skip_exit"
                async with self.session.post(url):
                    pass
                while await self._runs():  # noqa: ASYNC110 - another process's calls
                    await asyncio.sleep(_LOOK)

    async def _runs(self) -> bool:
        return any(count != "0" for count in (await self.admin.statistics([_RUNNING])).values())

    async def _told(self, names: Sequence[str]) -> dict[str, str]:
        with contextlib.suppress(UnreachableError):
            return dict(await self.admin.statistics(names))
        return {}


@contextlib.asynccontextmanager
async def opened(
    made: Front,
    binary: Path,
    clusters: Clusters,
    settings: Settings,
    siblings: Siblings,
    counting: Callable[[Admin], Counting] | None,
) -> AsyncIterator[_Door]:
    """The door while inside; an Envoy that dies is replaced. Raises StartError.

    `counting` reads what Envoys count, where they do.
    """
    made.clusters.parent.mkdir()
    put(made.clusters, clusters_file(clusters(settings), made.clusters.parent).text)
    connector = aiohttp.UnixConnector(str(made.admin))
    async with aiohttp.ClientSession(connector=connector) as session:
        admin = Admin(session, "front")
        envoy = await _started(made, binary)
        try:
            address = await _up(envoy, admin)
        except BaseException:
            await envoy.stop()
            raise
        door = _Door(
            address, replace(made, address=address), clusters, siblings, session, admin, counting and counting(admin)
        )
        keeping = asyncio.create_task(_kept(door, binary, envoy))
        try:
            yield door
        finally:
            keeping.cancel()
            await asyncio.gather(keeping, return_exceptions=True)


async def _started(made: Front, binary: Path) -> process.Envoy:
    made.admin.unlink(missing_ok=True)
    return await process.start(binary, bootstrap(made), made.admin.with_name("envoy.log"), len(os.sched_getaffinity(0)))


async def _up(envoy: process.Envoy, admin: Admin) -> str:
    """The public address, once calls are taken there."""
    ended = asyncio.create_task(envoy.ended())
    try:
        async with asyncio.timeout(_UP):
            while not ended.done():
                with contextlib.suppress(UnreachableError):
                    if (await admin.get("ready")).strip() == "LIVE":
                        return _address(await admin.get("listeners", format="json"))
                await asyncio.sleep(_LOOK)
        raise StartError(f"the Envoy in front {ended.result()}")
    except TimeoutError:
        raise StartError(f"the Envoy in front was not up within {_UP:g} s") from None
    finally:
        ended.cancel()


def _address(listeners: str) -> str:
    statuses = json.loads(listeners)["listener_statuses"]
    listener = next(status for status in statuses if status["name"] == LISTENER)
    at = listener["local_address"]["socket_address"]
    host = f"[{at['address']}]" if ":" in at["address"] else at["address"]
    return f"{host}:{at['port_value']}"


async def _kept(door: _Door, binary: Path, envoy: process.Envoy) -> None:
    """Hand on what the Envoy says, and start another if it ends or hangs, until cancelled; then end it."""
    try:
        while True:
            async with asyncio.TaskGroup() as watching:
                tasks = [watching.create_task(_repeated(envoy.log)), watching.create_task(_unhung(door.admin, envoy))]
                tasks.append(watching.create_task(_counted(door)))
                how = await envoy.ended()
                for task in tasks:
                    task.cancel()
            door.open = False
            if door.counting is not None:
                door.counting.replaced()
            log.error("the Envoy in front %s; starting another", how)
            while not door.open:
                await asyncio.sleep(_AGAIN)
                try:
                    envoy = await _started(door.made, binary)
                    await _up(envoy, door.admin)
                    door.open = True
                except Exception as error:  # noqa: BLE001 - whatever it is, there must be a door
                    await envoy.stop()
                    log.warning("the Envoy in front cannot be started: %s; it is tried again", error)
    finally:
        await envoy.stop()


async def _counted(door: _Door) -> None:
    """Look now and then, so that little is lost with who dies."""
    while True:
        await asyncio.sleep(EVERY)
        await door.counted()


async def _unhung(admin: Admin, envoy: process.Envoy) -> None:
    """End the Envoy once it does not answer any more."""
    silent = 0
    while silent < _MOST_SILENT:
        await asyncio.sleep(_PULSE)
        try:
            async with asyncio.timeout(_PULSE):
                await admin.get("ready")
            silent = 0
        except (UnreachableError, TimeoutError):
            silent += 1
    log.error("the Envoy in front has not answered for some %g s: it is ended", 2 * _PULSE * _MOST_SILENT)
    envoy.kill()


async def _repeated(said: Path) -> None:
    """What an Envoy says, said in our log; its own is made short again."""
    try:
        with said.open(errors="replace") as file:
            while True:
                for line in file:
                    log.warning("%s", line.rstrip())
                    await asyncio.sleep(0)
                if file.tell() > _LONG:
                    os.truncate(said, 0)
                    file.seek(0)
                await asyncio.sleep(_AGAIN)
    except OSError as error:
        log.warning("what the Envoy in front says cannot be read any more: %s", error)
