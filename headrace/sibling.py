"""A further gateway process behind the same door. Law: it does what the first one says, and ends with it.

The first reads the configuration and has the Envoy in front; what is in force there is sent here, so that no two decide
by different files. Signals are for the first alone (`headrace.siblings`).
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import enum
import logging
import os
import signal
from collections.abc import AsyncIterator, Callable, Sequence
from multiprocessing.connection import Connection
from pathlib import Path
from threading import Thread
from typing import Final, NamedTuple

from gateway import lane, memory
from gateway.audit import Audit
from gateway.errors import StartError
from gateway.in_force import Built, InForce
from gateway.server import serving
from gateway.settings import Settings
from headrace.express_clusters import cluster_of
from protos import garbage, logs
from protos.metrics.snapshot import Snapshot
from protos.spans import Spans

log = logging.getLogger("headrace.gateway.siblings")

BEAT: Final = 1.0  # seconds between signs of life
_PR_SET_PDEATHSIG: Final = 1  # prctl(2)


class Sign(enum.Enum):
    """What a further process says: that it takes calls, and that it lives."""

    READY = enum.auto()
    ALIVE = enum.auto()


class End(enum.Enum):
    """What it is told at the end: that all go, and that no call runs inside the door any more."""

    DRAIN = enum.auto()
    LEFT = enum.auto()


class Decide(NamedTuple):
    """What it is told before: by what to decide, and whether the lane may be taught that."""

    settings: Settings
    teaches: bool


def numbers_of(socket: Path) -> Path:
    """Where the process that serves at the socket tells what it has counted."""
    return socket.with_suffix(".numbers")


def serve(socket: Path, place: int, heard: Connection, signs: Connection) -> None:
    """Serve at the socket by what is `heard`, and give signs; until told to end, or nobody is left to tell.

    The first has the place 0.
    """
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)  # who hangs does not see that nobody is left
    memory.keep_freed()
    garbage.spare()
    try:
        said: Decide | End = heard.recv()
    except EOFError:
        return
    if not isinstance(said, Decide):
        return
    with logs.written(said.settings.telemetry.log):
        try:
            asyncio.run(_Gateway(signs).serve(socket, place, said, heard))
        except StartError as error:
            log.error("a further gateway process cannot start: %s", error)  # noqa: TRY400 - one sentence


class _Gateway:
    """The gateway in a further process, to which the first is the door."""

    address = ""
    open = True

    def __init__(self, signs: Connection) -> None:
        self._signs = signs
        self._sent: asyncio.Queue[Decide] = asyncio.Queue()
        self._told = {word: asyncio.Event() for word in End}
        self._alone = asyncio.Event()

    async def serve(self, socket: Path, place: int, first: Decide, heard: Connection) -> None:
        listening = (heard, asyncio.get_running_loop(), self._take, self._orphan)
        Thread(target=_listen, args=listening, name="heard", daemon=True).start()
        front = lane.Front(socket, None, socket.parent, place, cluster_of, self._opened, numbers_of(socket))
        living = asyncio.create_task(self._live())
        try:
            async with serving(first.settings, self._alone, os.environ, front, self._follow, teaches=first.teaches):
                self._sign(Sign.READY)
                await self._told[End.DRAIN].wait()
        finally:
            living.cancel()

    async def _live(self) -> None:
        while True:
            self._sign(Sign.ALIVE)
            await asyncio.sleep(BEAT)

    def _take(self, said: Decide | End) -> None:
        if isinstance(said, Decide):
            self._sent.put_nowait(said)
        else:
            self._told[said].set()

    def _orphan(self) -> None:
        """The first has gone, or has no time left: running calls end, too."""
        self._alone.set()
        for word in End:
            self._told[word].set()

    def _sign(self, sign: Sign) -> None:
        with contextlib.suppress(OSError):  # that nobody listens is told elsewhere
            self._signs.send(sign)

    async def _follow(self, in_force: InForce, built: Built, _door: lane.Door | None) -> None:
        try:
            while True:
                settings, teaches = await self._sent.get()
                if settings != in_force.settings:
                    in_force.take(settings, built, teaches=teaches)
                elif teaches:
                    in_force.teach(built)
        except Exception:
            log.exception("what is in force cannot be taken: this process ends")  # another begins with it
            self._orphan()
            raise

    @contextlib.asynccontextmanager
    async def _opened(self, _audit: Audit | None, _traces: Spans) -> AsyncIterator[lane.Door]:
        yield self

    async def find(self, *settings: Settings) -> None:
        """The first has it know them before it says that the lane may be taught."""

    def tell(self, settings: Settings, *, teaches: bool) -> None:
        """There is nobody behind this one."""

    def drain(self) -> None:
        """The first has said so."""

    async def counted(self) -> Sequence[Snapshot]:
        """It is the first who asks."""
        return ()

    async def leave(self, patience: float) -> None:
        """Wait until the first says that the door is left."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._told[End.LEFT].wait(), patience)


def _listen(
    heard: Connection,
    loop: asyncio.AbstractEventLoop,
    take: Callable[[Decide | End], None],
    orphan: Callable[[], None],
) -> None:
    """Hand on what is heard, to the loop; and in the end that no more will be."""
    with contextlib.suppress(RuntimeError):  # the loop has ended
        try:
            while True:
                loop.call_soon_threadsafe(take, heard.recv())
        except (EOFError, OSError):
            pass
        finally:
            loop.call_soon_threadsafe(orphan)
