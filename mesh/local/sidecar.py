"""One sidecar of a mesh on one machine. Law: it has an Envoy from `start` to `stop`, whatever becomes of that Envoy.

What Envoy does not take is taken back: the configuration before is in force again, or, where Envoy does not answer to
that either, it is with the next change.
"""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import time
from collections.abc import Awaitable, Callable
from typing import Final

from mesh.local.config import Config
from mesh.local.delivery import Delivery, NotTakenError
from mesh.local.failure import MeshError, PassingError
from mesh.local.files import CERTIFICATE, File
from mesh.local.process import Envoy
from mesh.local.workloads import Workload

_UP: Final = 60.0  # seconds in which a new Envoy must be up: machines may be loaded
_AGAIN: Final = 0.1  # seconds before another Envoy is started, doubled while it does not stay
_LONGEST: Final = 5.0  # seconds to which it is doubled, and after which an Envoy has stayed
_LOOK: Final = 0.05  # seconds between looks at whether a sidecar that goes still has calls
_STILL: Final = 4  # looks in a row that see none: a call may be on its way
_ASK: Final = 1.0  # seconds between questions whether an Envoy is there
_ANSWER: Final = 2.0  # seconds that an answer may take
_SILENT: Final = 3  # answers in a row that do not come: it hangs, and calls wait for it
_LEAVE: Final = 45.0  # seconds that its calls have, as long as Envoy drains connections


class Sidecar:
    """The sidecar of one workload, and the configuration that is in force there.

    `run` starts its Envoy, `tell` gets a sentence whenever that has ended by itself.
    """

    def __init__(
        self,
        workload: Workload,
        config: Config,
        delivery: Delivery,
        run: Callable[[], Awaitable[Envoy]],
        tell: Callable[[str], None],
    ) -> None:
        self.workload = workload
        self.config = config
        self.delivery = delivery
        self._run = run
        self._tell = tell
        self._envoy: Envoy | None = None
        self._keeper: asyncio.Task[None] | None = None
        self._astray = False  # whether another configuration than ours may be in force

    async def start(self, certificate: File) -> None:
        """Return once an Envoy does what the configuration says. Raises MeshError, OSError."""
        self.delivery.folder.mkdir(mode=0o700)
        self.certify(certificate)
        self.delivery.lay_out(self.config)
        self._envoy = await self._run()
        await self._until_up(self._envoy)
        self._keeper = asyncio.create_task(self._keep(self._envoy), name=f"keeper of {self.workload.name}")

    def certify(self, certificate: File) -> None:
        """Let new connections have this certificate; those that run stay. Raises OSError."""
        self.delivery.put(CERTIFICATE, certificate)

    async def apply(self, config: Config) -> None:
        """Let the Envoy do something else from now on. Raises NotTakenError, OSError; it is then taken back."""
        if self.config == config and not self._astray:
            return
        try:
            await self.delivery.change(self.config, config, _mark() if self._astray else None)
        except (NotTakenError, OSError) as error:
            await self._take_back()
            if isinstance(error, OSError):
                raise
            raise type(error)(f"{self.workload.name}: {error}") from None
        self.config, self._astray = config, False

    async def leave(self) -> None:
        """End the Envoy once no more calls go by it, or after a while."""
        still = 0
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_LEAVE):
                while still < _STILL:
                    still = 0 if await self.delivery.calls_running() else still + 1
                    await asyncio.sleep(_LOOK)
        await self.stop()

    async def stop(self) -> None:
        """End the Envoy for good, and take its files away."""
        if self._keeper is not None:
            self._keeper.cancel()
            await asyncio.gather(self._keeper, return_exceptions=True)
        if self._envoy is not None:
            await self._envoy.stop()
        shutil.rmtree(self.delivery.folder, ignore_errors=True)
        self.delivery.log.unlink(missing_ok=True)

    async def _take_back(self) -> None:
        try:
            await self.delivery.restore(self.config, _mark())
            self._astray = False
        except (NotTakenError, OSError) as error:
            self._astray = True
            self._tell(f"{self.workload.name}: what was before may not be in force: {error}")

    async def _until_up(self, envoy: Envoy) -> None:
        up, ended = asyncio.create_task(self.delivery.taken()), asyncio.create_task(envoy.ended())
        try:
            await asyncio.wait((up, ended), timeout=_UP, return_when=asyncio.FIRST_COMPLETED)
            if ended.done():
                raise PassingError(f"the Envoy beside {self.workload.name} {ended.result()}")
            if not up.done():
                raise PassingError(f"the Envoy beside {self.workload.name} was not up within {_UP:g} s")
            if (error := up.exception()) is not None:
                kind = PassingError if isinstance(error, PassingError) else MeshError
                raise kind(f"{self.workload.name}: {error}") from None
        finally:
            for task in (up, ended):
                task.cancel()
            await asyncio.gather(up, ended, return_exceptions=True)

    async def _keep(self, envoy: Envoy) -> None:
        """Start another Envoy whenever one has ended."""
        pause = _AGAIN
        while True:
            began = time.monotonic()
            how = await self._ended(envoy)
            pause = _AGAIN if time.monotonic() - began > _LONGEST else min(2 * pause, _LONGEST)
            self._tell(f"the Envoy beside {self.workload.name} {how}\n  another is started")
            envoy = self._envoy = await self._another(pause)
            try:
                await self._until_up(envoy)
            except MeshError as error:
                if envoy.process.returncode is None:  # else it is told as one that has ended
                    self._tell(str(error))

    async def _ended(self, envoy: Envoy) -> str:
        """How it ended, by itself or by us, because it hung."""
        watching = asyncio.create_task(self._watch(envoy))
        try:
            return await envoy.ended()
        finally:
            watching.cancel()
            await asyncio.gather(watching, return_exceptions=True)

    async def _watch(self, envoy: Envoy) -> None:
        silent = 0
        while silent < _SILENT:
            await asyncio.sleep(_ASK)
            silent = 0 if await self.delivery.answers(_ANSWER) else silent + 1
        self._tell(f"the Envoy beside {self.workload.name} (pid {envoy.process.pid}) does not answer: it is killed")
        envoy.kill()

    async def _another(self, pause: float) -> Envoy:
        while True:
            await asyncio.sleep(pause)
            try:
                return await self._run()
            except OSError as error:
                self._tell(f"the Envoy beside {self.workload.name} cannot be started: {error}\n  it is tried again")
                pause = _LONGEST


def _mark() -> str:
    return f"{time.monotonic_ns():x}"
