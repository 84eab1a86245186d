"""A further gateway process behind the same door. Law: it does what the first one says, and ends with it.

The first reads the configuration and has the Envoy in front; what is in force there is sent here, so that no two decide
by different files. Signals are for the first alone (`headrace.siblings`).
"""

from __future__ import annotations

import asyncio
import contextlib
import enum
import os
from collections.abc import AsyncIterator, Callable
from multiprocessing.connection import Connection
from pathlib import Path
from threading import Thread
from typing import Final, NamedTuple

from gateway import lane, memory
from gateway.in_force import Built, InForce
from gateway.server import serving
from gateway.settings import Settings
from headrace.express_clusters import cluster_of
from protos import logs

BEAT: Final = 1.0  # seconds between signs of life


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


def serve(socket: Path, heard: Connection, signs: Connection) -> None:
    """Serve at the socket by what is `heard`, and give signs; until told to end, or nobody is left to tell."""
    memory.keep_freed()
    try:
        said: Decide | End = heard.recv()
        while isinstance(said, Decide) and not said.teaches:  # the door may not know yet what it names
            said = heard.recv()
    except EOFError:
        return
    if isinstance(said, Decide):
        with logs.to_stderr():
            asyncio.run(_Sibling(signs).serve(socket, said.settings, heard))


class _Sibling:
    """One further process; to the gateway in it, the first is its door."""

    address = ""
    open = True

    def __init__(self, signs: Connection) -> None:
        self._signs = signs
        self._sent: asyncio.Queue[Decide] = asyncio.Queue()
        self._told = {word: asyncio.Event() for word in End}
        self._alone = asyncio.Event()

    async def serve(self, socket: Path, settings: Settings, heard: Connection) -> None:
        listening = (heard, asyncio.get_running_loop(), self._take, self._orphan)
        Thread(target=_listen, args=listening, name="heard", daemon=True).start()
        front = lane.Front(socket, None, cluster_of, self._opened)
        draining = self._told[End.DRAIN]
        async with serving(settings, self._alone, os.environ, front, self._follow):
            self._sign(Sign.READY)
            while not draining.is_set():
                self._sign(Sign.ALIVE)
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(draining.wait(), BEAT)

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
        while True:
            settings, teaches = await self._sent.get()
            if settings != in_force.settings:
                in_force.take(settings, built, teaches=teaches)
            elif teaches:
                in_force.teach(built)

    @contextlib.asynccontextmanager
    async def _opened(self) -> AsyncIterator[lane.Door]:
        yield self

    async def find(self, *settings: Settings) -> None:
        """The first has it know them before it says that the lane may be taught."""

    def tell(self, settings: Settings, *, teaches: bool) -> None:
        """There is nobody behind this one."""

    def drain(self) -> None:
        """The first has said so."""

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
        with contextlib.suppress(EOFError, OSError):
            while True:
                loop.call_soon_threadsafe(take, heard.recv())
        loop.call_soon_threadsafe(orphan)
