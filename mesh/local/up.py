"""A mesh on one machine, composed. Law: whatever ends it, what it started ends first.

What the folder says is in force, or else the last that it said and that could be: a change that cannot be used is told,
and changes nothing.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import aiohttp

from mesh.istio.document import RefusedError
from mesh.istio.load import load_world
from mesh.istio.mesh_config import MeshConfig
from mesh.local.addresses import Addresses, is_free
from mesh.local.failure import MeshError
from mesh.local.fleet import Fleet, Means
from mesh.local.follow import changes, look, resources
from mesh.local.keys import Keys, filled, sources
from mesh.local.plan import Gateway, Plan, plan
from mesh.local.workloads import Key, Places, as_written


@dataclass(frozen=True)
class Options:
    """What is run: a folder of resources, the mesh's settings, an Envoy, and how long a certificate is good."""

    folder: Path
    binary: Path
    mesh: MeshConfig
    gateway: Gateway
    lifetime: timedelta
    process: Callable[[Key, str], str] = as_written


@dataclass(frozen=True)
class Watcher:
    """Who is told: `planned` of every plan once it is in force, `tell` of the rest, in sentences."""

    planned: Callable[[Plan], None]
    tell: Callable[[str], None]


@contextlib.asynccontextmanager
async def running(options: Options, place: Path, watcher: Watcher) -> AsyncIterator[LocalMesh]:
    """A mesh that is up while inside; its files are in `place`. Raises RefusedError, MeshError."""
    async with contextlib.AsyncExitStack() as stack:
        session = await stack.enter_async_context(aiohttp.ClientSession())
        trust_domain = options.mesh.trust_domain
        means = Means(place, options.binary, trust_domain, options.lifetime, session, watcher.tell)
        fleet = Fleet(means)
        stack.push_async_callback(fleet.stop)
        mesh = LocalMesh(options, fleet, Keys(session, watcher.tell), watcher)
        await mesh.carry_out()
        for work in (mesh.follow(), mesh.keep_certificates(), mesh.keep_keys()):
            await stack.enter_async_context(_in_background(work))
        yield mesh


class LocalMesh:
    """What a folder says, done by a fleet of sidecars."""

    def __init__(self, options: Options, fleet: Fleet, keys: Keys, watcher: Watcher) -> None:
        self._options = options
        self._fleet = fleet
        self._keys = keys
        self._watcher = watcher
        self._places = Places(Addresses(random.random, is_free).of, options.process)
        self._seen = look(options.folder)
        self._changing = asyncio.Lock()

    async def carry_out(self) -> None:
        """Do what the folder says. Raises RefusedError, MeshError."""
        async with self._changing:
            await self._carry_out()

    async def follow(self) -> None:
        """Do what the folder says whenever it says something else."""
        async for _ in changes(self._options.folder, self._seen):
            await self._change("the folder")

    async def keep_keys(self) -> None:
        """Do the same whenever an issuer has other keys."""
        while True:
            if await self._keys.refresh():
                await self._change("an issuer's keys")

    async def keep_certificates(self) -> None:
        """Give every sidecar a new certificate when half of the old one's time is over."""
        while True:
            await asyncio.sleep(self._options.lifetime.total_seconds() / 2)
            self.renew()

    def renew(self) -> None:
        """Give every sidecar a new certificate now."""
        self._fleet.renew()

    async def _change(self, what: str) -> None:
        async with self._changing:
            began = time.monotonic()
            try:
                await self._carry_out()
            except RefusedError as refused:
                lines = "\n  ".join(refused.mistakes)
                self._watcher.tell(f"{what} cannot be used, and what was before stays:\n  {lines}")
            except MeshError as error:
                self._watcher.tell(f"{what} cannot be used, and what was before stays: {error}")
            else:
                self._watcher.tell(f"{what}: in force after {time.monotonic() - began:.2f} s")

    async def _carry_out(self) -> None:
        options = self._options
        try:
            world = load_world(resources(options.folder), options.mesh)
        except OSError as error:
            raise MeshError(f"{options.folder} cannot be read: {error.strerror}") from None
        await self._keys.have(sources(world))
        planned = plan(filled(world, self._keys.current), self._places, options.gateway)
        await self._fleet.carry_out(planned)
        self._watcher.planned(planned)


@contextlib.asynccontextmanager
async def _in_background(work: Coroutine[Any, Any, None]) -> AsyncIterator[None]:
    task = asyncio.create_task(work)
    try:
        yield
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
