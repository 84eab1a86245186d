"""A mesh on one machine, composed. Law: whatever ends it, what it started ends first.

What the folder says is in force, or else the last that it said and that could be: a change that cannot be used is told,
and changes nothing.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

import aiohttp

from mesh.ads.server import serving
from mesh.ads.stream import Verdict
from mesh.istio.document import RefusedError
from mesh.istio.load import load_world, resources
from mesh.istio.mesh_config import MeshConfig
from mesh.istio.world import World
from mesh.local.addresses import SIDECARS, Addresses, is_free
from mesh.local.authority import Authority, is_due
from mesh.local.doubts import doubts, gone
from mesh.local.failure import MeshError, PassingError
from mesh.local.fleet import Fleet, Means
from mesh.local.follow import changes, look
from mesh.local.keys import Keys, Pace, filled, sources
from mesh.local.plan import Address, Gateway, Plan, plan
from mesh.local.proxyless import Caller, refresh
from mesh.local.workloads import Key, Places, as_written

_AGAIN: Final = 2.0  # seconds until what could not be done, but may be later, is tried again
_LOOK: Final = 1.0  # seconds between looks at the clock, which jumps when a machine has slept


@dataclass(frozen=True)
class Options:
    """What is run: a folder of resources, the mesh's settings, an Envoy, and how long a certificate is good.

    `process` says where a process listens whose entry says an address; `clock` tells the time, with its zone.
    """

    folder: Path
    binary: Path
    mesh: MeshConfig
    gateway: Gateway
    lifetime: timedelta
    process: Callable[[Key, str], str] = as_written
    clock: Callable[[], datetime] = lambda: datetime.now(UTC)
    pace: Pace = Pace()  # noqa: RUF009 - it is frozen


@dataclass(frozen=True)
class Watcher:
    """Who is told: of every plan before it is carried out and once it is in force, and of the rest in sentences."""

    planned: Callable[[Plan], None]
    in_force: Callable[[Plan], None]
    tell: Callable[[str], None]


@contextlib.asynccontextmanager
async def running(options: Options, place: Path, watcher: Watcher) -> AsyncIterator[LocalMesh]:
    """A mesh that is up while inside; its files are in `place`. Raises RefusedError, MeshError.

    It stays as it is unless it is told to change, or kept up to date (`LocalMesh.keep`).
    """
    async with contextlib.AsyncExitStack() as stack:
        session = await stack.enter_async_context(aiohttp.ClientSession())
        trust_domain = options.mesh.trust_domain
        authority = Authority(trust_domain, options.clock())
        means = Means(
            place, options.binary, trust_domain, authority, options.lifetime, options.clock, session, watcher.tell
        )
        xds = options.gateway.xds
        caller = await _caller(xds, means, stack) if xds else None
        fleet = Fleet(means)
        mesh = LocalMesh(options, fleet, caller, Keys(session, watcher.tell, options.pace), watcher)
        try:
            await mesh.carry_out()
            yield mesh
        finally:
            await fleet.stop()


async def _caller(address: Address, means: Means, stack: contextlib.AsyncExitStack) -> Caller:
    """A caller without a sidecar, and its control plane at the address until the stack ends. Raises MeshError."""

    def heard(verdict: Verdict) -> None:
        if verdict.error is not None:
            means.tell(f"gRPC's xDS client refuses what it is told: {verdict.error}")

    host, port = address
    try:
        ads = await stack.enter_async_context(serving(f"{host}:{port}", heard))
    except RuntimeError:
        raise MeshError(f"the control plane cannot listen on {host}:{port}") from None
    return Caller(means.place, ads, means.authority.roots, means.certificate, refresh(means.lifetime))


class LocalMesh:
    """What a folder says, done by a fleet of sidecars, and told to a caller that has none."""

    def __init__(self, options: Options, fleet: Fleet, caller: Caller | None, keys: Keys, watcher: Watcher) -> None:
        self._options = options
        self._fleet = fleet
        self._caller = caller
        self._keys = keys
        self._watcher = watcher
        self._addresses = Addresses(SIDECARS, random.random, is_free)
        self._seen = look(options.folder)
        self._world: World | None = None  # what is in force
        self._changing = asyncio.Lock()

    async def carry_out(self, *, anew: bool = False) -> None:
        """Do what the folder says, or `anew` what is in force. Raises RefusedError, MeshError: all is as before."""
        async with self._changing:
            try:
                # In a thread: what hundreds of workloads shall do takes seconds to work out.
                world = self._world if anew and self._world else await asyncio.to_thread(_read, self._options)
                await self._carry_out(world)
            except OSError as error:
                raise PassingError(_words(error)) from None

    async def keep(self) -> None:
        """Keep up with the folder, with issuers' keys and with the time, for ever."""
        works = [asyncio.create_task(work) for work in (self.follow(), self.keep_keys(), self.keep_certificates())]
        try:
            await asyncio.gather(*works)
        finally:
            for work in works:
                work.cancel()
            await asyncio.gather(*works, return_exceptions=True)

    async def follow(self) -> None:
        """Do what the folder says whenever it says something else."""
        async for _ in changes(self._options.folder, self._seen):
            await self._change("the folder")

    async def keep_keys(self) -> None:
        """Do what is in force anew, whatever the folder says by now, whenever an issuer has other keys."""
        while True:
            if await self._keys.refresh():
                await self._change("an issuer's keys", anew=True)

    async def keep_certificates(self) -> None:
        """Give every workload a new certificate when half of the old one's time is over; if it cannot be, again."""
        lifetime, told = self._options.lifetime, ""
        while True:
            await asyncio.sleep(min(_LOOK, lifetime.total_seconds() / 10))
            if not is_due(self._fleet.issued, self._options.clock(), lifetime):
                continue
            try:
                self.renew()
            except OSError as error:
                if told != (told := _words(error)):
                    until = (self._fleet.issued + lifetime).astimezone()
                    rest = f"those that are there are good until {until:%H:%M:%S}; it is tried again"
                    self._watcher.tell(f"certificates cannot be renewed: {told}\n  {rest}")
            else:
                if told:
                    self._watcher.tell("certificates are renewed again")
                told = ""

    def renew(self) -> None:
        """Give every workload a new certificate now. Raises OSError."""
        self._fleet.renew()
        if self._caller is not None:
            self._caller.certify()

    async def _change(self, what: str, *, anew: bool = False) -> None:
        """Carry out, and tell how that went; try again while it fails for a reason that may pass."""
        told = ""
        while True:
            began = time.monotonic()
            try:
                await self.carry_out(anew=anew)
            except Exception as error:  # noqa: BLE001 - whatever it is, what is in force stays, and may be changed back
                why, passing = _why(error), isinstance(error, PassingError)
            else:
                self._watcher.tell(f"{what}: in force after {time.monotonic() - began:.2f} s")
                return
            if why != told:
                again = "\n  it is tried again" if passing else ""
                self._watcher.tell(f"{what} cannot be used, and what was before stays:{why}{again}")
            if not passing:
                return
            told = why
            await asyncio.sleep(_AGAIN)

    async def _carry_out(self, world: World) -> None:
        options = self._options
        await self._keys.have(sources(world))
        places = Places(self._addresses.of, options.process)
        planned = await asyncio.to_thread(plan, filled(world, self._keys.current), places, options.gateway)
        self._watcher.planned(planned)
        await self._fleet.carry_out(planned)
        before, self._world = self._world, world
        if world is not before:
            await self._tell_of(before, world)
        self._addresses.keep({workload.proxy.ip for workload in planned.workloads.values()})
        try:
            if self._caller is not None and planned.proxyless is not None:
                self._caller.tell(planned.proxyless)
            self._watcher.in_force(planned)
        except OSError as error:  # of the files by which others learn of it
            self._watcher.tell(f"it is in force, but not everyone can be told: {_words(error)}")

    async def _tell_of(self, before: World | None, world: World) -> None:
        """What whoever wrote it may not have meant."""
        if before is not None and (names := gone(before, world)):
            self._watcher.tell(f"gone: {', '.join(names)}")
        for doubt in await asyncio.to_thread(doubts, world):
            self._watcher.tell(f"look at {doubt}")


def _why(error: Exception) -> str:
    if isinstance(error, RefusedError):
        return "".join(f"\n  {line}" for line in error.mistakes)
    if isinstance(error, MeshError):
        return f" {error}"
    return f" this is a defect of headrace, please report it: {type(error).__name__}: {error}"


def _words(error: OSError) -> str:
    return f"{error.filename}: {error.strerror}" if error.filename else error.strerror or str(error)


def _read(options: Options) -> World:
    return load_world(resources(options.folder), options.mesh)
