"""One sidecar of a mesh on one machine. Law: it has an Envoy from `start` to `stop`, whatever becomes of that Envoy.

What Envoy does not take is taken back: the configuration before is in force again.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

from mesh.local.bootstrap import bootstrap
from mesh.local.config import Config
from mesh.local.delivery import Delivery, NotTakenError
from mesh.local.failure import MeshError
from mesh.local.files import File
from mesh.local.process import Envoy, start
from mesh.local.workloads import Workload

_UP: Final = 60.0  # seconds in which a new Envoy must be up: machines may be loaded
_AGAIN: Final = 0.1  # seconds before another Envoy is started, doubled while it does not stay
_LOOK: Final = 0.05  # seconds between looks at whether a sidecar that goes still has calls
_LOOKS: Final = 100
_LONGEST: Final = 5.0  # seconds to which it is doubled, and after which an Envoy has stayed


class Sidecar:
    """The sidecar of one workload. `tell` gets a sentence whenever its Envoy has ended by itself."""

    def __init__(self, workload: Workload, delivery: Delivery, binary: Path, tell: Callable[[str], None]) -> None:
        self.workload = workload
        self.delivery = delivery
        self._binary = binary
        self._tell = tell
        self._config: Config | None = None
        self._envoy: Envoy | None = None
        self._keeper: asyncio.Task[None] | None = None

    async def start(self, config: Config, secrets: Mapping[str, File]) -> None:
        """Return once an Envoy does what `config` says. Raises MeshError."""
        self.delivery.folder.mkdir(mode=0o700)
        for name, secret in secrets.items():
            self.delivery.put(name, secret)
        self.delivery.lay_out(config)
        self._config = config
        self._envoy = await self._start()
        await self._until_up(self._envoy, config)
        self._keeper = asyncio.create_task(self._keep(self._envoy), name=f"keeper of {self.workload.name}")

    async def apply(self, config: Config) -> None:
        """Let the Envoy do something else from now on. Raises NotTakenError, with what it did before in force."""
        before = self._config
        if before is None or before == config:
            return
        try:
            await self.delivery.change(before, config)
        except NotTakenError as error:
            with contextlib.suppress(NotTakenError):
                await self.delivery.restore(before)
            raise NotTakenError(f"{self.workload.name}: {error}") from None
        self._config = config

    async def idle(self) -> None:
        """Return once the process has no more calls by this sidecar, or after a while."""
        for _ in range(_LOOKS):
            if not await self.delivery.calls_running():
                return
            await asyncio.sleep(_LOOK)

    async def stop(self) -> None:
        """End the Envoy for good."""
        if self._keeper is not None:
            self._keeper.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._keeper
        if self._envoy is not None:
            await self._envoy.stop()

    async def _start(self) -> Envoy:
        return await start(self._binary, bootstrap(self.workload, self.delivery.folder), self.delivery.log)

    async def _until_up(self, envoy: Envoy, config: Config) -> None:
        up, ended = asyncio.create_task(self.delivery.taken(config)), asyncio.create_task(envoy.ended())
        try:
            await asyncio.wait((up, ended), timeout=_UP, return_when=asyncio.FIRST_COMPLETED)
            if ended.done():
                raise MeshError(f"the Envoy beside {self.workload.name} {ended.result()}")
            if not up.done():
                raise MeshError(f"the Envoy beside {self.workload.name} was not up within {_UP:g} s")
            up.result()
        finally:
            for task in (up, ended):
                task.cancel()
            await asyncio.gather(up, ended, return_exceptions=True)

    async def _keep(self, envoy: Envoy) -> None:
        """Start another Envoy whenever one has ended."""
        pause = _AGAIN
        while True:
            began = time.monotonic()
            how = await envoy.ended()
            pause = _AGAIN if time.monotonic() - began > _LONGEST else min(2 * pause, _LONGEST)
            self._tell(f"the Envoy beside {self.workload.name} {how}\n  another is started")
            await asyncio.sleep(pause)
            envoy = self._envoy = await self._start()
