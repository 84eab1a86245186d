"""Further gateway processes behind the same door. Law: there are always as many, and none outlives us.

Python has one core for each process; the Envoy in front shares calls among their sockets. One that ends or hangs is
replaced. They are started anew and not forked: gRPC does not bear that.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import multiprocessing
import signal
from collections.abc import AsyncIterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from multiprocessing import resource_tracker
from pathlib import Path
from typing import Final

from gateway.errors import StartError
from gateway.metrics import BY_NAME
from gateway.settings import Settings
from headrace.sibling import BEAT, Decide, End, Sign, numbers_of, serve
from protos.metrics import carried
from protos.metrics.snapshot import Snapshot, grown, merged

log = logging.getLogger("headrace.gateway.siblings")

_UP: Final = 60.0  # seconds that one has to come up
_SILENT: Final = 10 * BEAT  # seconds without a sign after which one is held to hang
_AGAIN: Final = 0.5  # seconds after which one that ended is replaced
_TOLD: Final = 1.0  # seconds in which one must tell what it has counted
_GONE: Final = 5.0  # seconds in which one must have ended that was told to
_SIGNALS: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Siblings:
    """What they all are to know; `tells`: whether they tell what they have counted."""

    def __init__(self, settings: Settings, *, tells: bool) -> None:
        self._tells = tells
        self._past: Sequence[Snapshot] = ()
        self._decide = Decide(_theirs(settings), teaches=True)
        self._there: set[_Sibling] = set()
        self._draining = asyncio.Event()

    def tell(self, settings: Settings, *, teaches: bool) -> None:
        """By what to decide, and whether the lane may be taught that; those that are started later are told, too."""
        self._decide = Decide(_theirs(settings), teaches)
        for one in self._there:
            one.tell(self._decide)

    def drain(self) -> None:
        """All go, when no call runs inside the door any more."""
        self._draining.set()
        for one in self._there:
            one.tell(End.DRAIN)

    async def counted(self) -> Sequence[Snapshot]:
        """What they have counted, and those that have been replaced; it takes a second at most."""
        if not self._tells:
            return ()
        told = await asyncio.gather(*(one.counted() for one in self._there))
        return [*self._past, *(snapshot for snapshot in told if snapshot is not None)]

    def left(self) -> None:
        """No call runs inside the door any more."""
        for one in self._there:
            one.tell(End.LEFT)

    @contextlib.asynccontextmanager
    async def kept(self, sockets: Sequence[Path]) -> AsyncIterator[None]:
        """One for each socket while inside. Raises StartError: one does not come up."""
        keeping: list[asyncio.Task[None]] = []
        try:
            for place, socket in enumerate(sockets, start=1):
                self._start(socket, place)
            for one in self._there:
                await one.up()
            keeping += [asyncio.create_task(self._keep(one)) for one in self._there]
            yield
        finally:
            for task in keeping:
                task.cancel()
            await asyncio.gather(*keeping, return_exceptions=True)
            await asyncio.gather(*(one.stop() for one in self._there), return_exceptions=True)

    def _start(self, socket: Path, place: int) -> _Sibling:
        """Raises StartError."""
        try:
            one = _Sibling(socket, place)
        except OSError as error:
            raise StartError(f"a further gateway process cannot be started: {error.strerror}") from None
        self._there.add(one)
        one.tell(self._decide)
        return one

    async def _keep(self, one: _Sibling) -> None:
        """Replace it whenever it ends or hangs, until it is to end, or we are cancelled."""
        while True:
            how = await one.ended()
            if self._draining.is_set():
                return
            log.error("%s %s; starting another", one, how)
            self._there.discard(one)
            if one.told is not None:
                self._past = (merged([*self._past, grown(one.told)]),)
            await one.stop(at_once=True)
            while True:
                await asyncio.sleep(_AGAIN)
                if self._draining.is_set():
                    return
                try:
                    one = self._start(one.socket, one.place)
                    break
                except StartError as error:
                    log.warning("%s; it is tried again", error)


class _Sibling:
    """One of them, as it is from here. Raises OSError: it cannot be started.

    It is started by the thread that stays, that of the loop: with this it ends (prctl(2), PR_SET_PDEATHSIG).
    """

    def __init__(self, socket: Path, place: int) -> None:
        self.socket, self.place = socket, place
        self._speaks = ThreadPoolExecutor(1, thread_name_prefix="speaks")  # for one that does not listen
        self._up, self._gone = asyncio.Event(), asyncio.Event()
        context = multiprocessing.get_context("spawn")
        heard, self._words = context.Pipe(duplex=False)
        self._signs, signs = context.Pipe(duplex=False)
        self._process = context.Process(target=serve, args=(socket, place, heard, signs), name=socket.stem)
        resource_tracker.ensure_running()  # when it is started, it lets signals in again
        before = signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)  # which it inherits: they are for us to pass on
        try:
            self._process.start()
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
            heard.close()
            signs.close()
        self.told: Snapshot | None = None
        self._heard_at = asyncio.get_running_loop().time()
        asyncio.get_running_loop().add_reader(self._signs.fileno(), self._sign)

    def __str__(self) -> str:
        return f"further gateway process {self.socket.stem} (pid {self._process.pid})"

    def _sign(self) -> None:
        self._heard_at = asyncio.get_running_loop().time()
        try:
            if self._signs.recv() is Sign.READY:
                self._up.set()
                log.info("%s takes calls", self)
        except (EOFError, OSError):
            asyncio.get_running_loop().remove_reader(self._signs.fileno())
            self._gone.set()

    def tell(self, word: Decide | End) -> None:
        """What comes first is said first; nobody waits."""
        self._speaks.submit(self._say, word)

    def _say(self, word: Decide | End) -> None:
        with contextlib.suppress(OSError):  # that it has ended is seen elsewhere
            self._words.send(word)

    async def counted(self) -> Snapshot | None:
        """What it has counted; where it does not say, what of that only grows and it has said before."""
        try:
            async with asyncio.timeout(_TOLD):
                reader, writer = await asyncio.open_unix_connection(numbers_of(self.socket))
                with contextlib.closing(writer):
                    text = await reader.read()
            self.told = await asyncio.to_thread(carried.read, text, BY_NAME)
        except (OSError, TimeoutError, ValueError):
            return self.told and grown(self.told)
        return self.told

    async def up(self) -> None:
        """Return once it takes calls. Raises StartError."""
        waiting = [asyncio.create_task(event.wait()) for event in (self._up, self._gone)]
        await asyncio.wait(waiting, timeout=_UP, return_when=asyncio.FIRST_COMPLETED)
        for task in waiting:
            task.cancel()
        if not self._up.is_set():
            how = "has ended" if self._gone.is_set() else f"was not up within {_UP:g} s"
            raise StartError(f"{self} {how}")

    async def ended(self) -> str:
        """How it ended, or that it hangs; waits for that."""
        loop = asyncio.get_running_loop()
        while not self._gone.is_set():
            if loop.time() - self._heard_at > (_SILENT if self._up.is_set() else _UP):
                return f"has given no sign for {_SILENT:g} s"
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._gone.wait(), BEAT)
        await asyncio.to_thread(self._process.join, _GONE)
        code = self._process.exitcode
        return f"was killed by signal {-code}" if code is not None and code < 0 else f"ended with code {code}"

    async def stop(self, *, at_once: bool = False) -> None:
        """End it: it does so by itself when it hears no more."""
        if at_once:
            self._process.kill()
        self._speaks.submit(self._words.close)
        try:
            await asyncio.to_thread(self._process.join, _GONE)
        finally:
            self._process.kill()
            asyncio.get_running_loop().remove_reader(self._signs.fileno())
            self._signs.close()
            self._speaks.shutdown(wait=False)
        await asyncio.to_thread(self._process.join, _GONE)


def _theirs(settings: Settings) -> Settings:
    """The admin pages are the first's."""
    return settings.model_copy(update={"listen": settings.listen.model_copy(update={"admin": None})})
