"""What the mesh does for calls, tried out. Law: every step checks what it shows; CommandError where it is not so."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import aiohttp
import grpc
import grpc.aio

from headrace.client import Answer
from headrace.demo.config import HOST
from headrace.demo.digits import MODEL
from headrace.demo.flow import flowing, share, until
from headrace.demo.stage import Copy, MeshProcess
from headrace.failure import CommandError
from mesh.envoy.admin import Admin
from mesh.local.state import Beside, State
from mesh.shift import files, wanted
from mesh.status.admin import looked_at
from mesh.status.rows import Look, Row, rows
from protos.contract import SERVICE

_LIVE: Final = f"/{SERVICE}/ServerLive"
_IN_FORCE: Final = 5.0  # seconds in which a shift must be
_EJECTED: Final = 20.0  # seconds in which a bad copy must be out, and a good one back
_BEFORE, _AFTER = 60, 200  # calls that are looked at before and after something happens

Infer = Callable[[str], Awaitable[Answer]]
"""One call of the model, of a version, or of any (empty)."""


@dataclass(frozen=True)
class Shift:
    """A shift of traffic: seconds until it was in force; version 2's part of the calls after; the calls meanwhile."""

    took: float
    after: float
    calls: int
    slowest: float


@dataclass(frozen=True)
class Outage:
    """A copy that went bad: the calls meanwhile, the slowest of them and the seconds until the copy was ejected."""

    copy: str
    calls: int
    slowest: float
    ejected_after: float


@dataclass(frozen=True)
class Visitor:
    """Someone who calls a worker: who, and what the worker's sidecar says to that."""

    who: str
    status: str
    words: str


class MeshTour:
    """The steps; `session` is for Envoy's admin pages."""

    def __init__(self, mesh: MeshProcess, infer: Infer, session: aiohttp.ClientSession) -> None:
        self._infer = infer
        self._state: State = mesh.state
        self._folder = mesh.folder
        self._envoy = Admin(session, self._beside(self._state.gateway or "").admin)

    async def shift(self, first: int, second: int) -> Shift:
        """Share the calls anew while they flow, as `headrace mesh shift` does."""
        async with flowing(lambda: self._infer("")) as flow:
            await flow.more(_BEFORE)
            asked = wanted.read([f"1={first}", f"2={second}"])
            await asyncio.to_thread(files.shift, self._folder, MODEL, asked)

            async def in_force() -> bool:
                return await self._weights() == {"1": first, "2": second}

            took = await until(in_force, "the shift was not in force", _IN_FORCE)
            after = await flow.more(_AFTER)
        found = Shift(took, share(after, "2"), len(flow.answered), flow.slowest)
        if abs(found.after - second / 100) > 0.2:  # more than five standard deviations of so many calls
            raise CommandError(f"after the shift version 2 got {found.after:.0%} of the calls, not about {second} %")
        return found

    async def outage(self, copy: Copy, signal_number: signal.Signals) -> Outage:
        """Make a copy of a version bad, with calls of that version flowing, until it is ejected."""
        async with flowing(lambda: self._infer(copy.version)) as flow:
            await flow.more(_BEFORE)
            os.kill(copy.child.process.pid, signal_number)

            async def ejected() -> bool:
                return await self._ejected(copy.version) == 1

            took = await until(ejected, f"{copy.child.name} was not ejected", _EJECTED)
            await flow.more(_AFTER)
        return Outage(copy.child.name, len(flow.answered), flow.slowest, took)

    async def returned(self, copy: Copy) -> float:
        """Seconds until a copy that is good again gets calls again."""

        async def back() -> bool:
            await self._infer(copy.version)
            return await self._ejected(copy.version) == 0

        return await until(back, f"{copy.child.name} did not come back", _EJECTED)

    async def visitors(self) -> Sequence[Visitor]:
        """Three who call a worker: the gateway by its sidecar, another workload by its own, and one in plain text."""
        door = next(one for one in self._state.workloads if one.ports)
        by_gateway = await _visit("the gateway, by its sidecar", self._beside(self._state.gateway or "").outbound)
        by_worker = await _visit("a worker, by its own sidecar", door.outbound)
        plain = await _visit("anyone, in plain text", f"{door.address}:{door.ports[0]}")
        expected = (("OK", ""), ("PERMISSION_DENIED", "RBAC: access denied"), ("UNAVAILABLE", ""))
        found = (by_gateway, by_worker, plain)
        for visitor, (status, words) in zip(found, expected, strict=True):
            if visitor.status != status or words not in visitor.words:
                raise CommandError(f"{visitor.who} should get {status}, but got {visitor.status} {visitor.words}")
        return found

    async def flows(self, since: Look) -> Sequence[Row]:
        """What has flowed since a look."""
        return rows(since, await self.look())

    async def look(self) -> Look:
        """What the gateway's Envoy tells now."""
        return await looked_at(self._envoy)

    async def _weights(self) -> Mapping[str, float]:
        (model,) = (one for one in (await self.look()).models if one.name == MODEL)
        return {version.name: version.weight for version in model.versions}

    async def _ejected(self, version: str) -> int:
        now = await self.look()
        (model,) = (one for one in now.models if one.name == MODEL)
        (cluster,) = (one.cluster for one in model.versions if one.name == version)
        return now.copies[cluster].ejected

    def _beside(self, name: str) -> Beside:
        """The sidecar of a workload, `NAMESPACE/NAME`."""
        return next(one for one in self._state.workloads if f"{one.namespace}/{one.name}" == name)


async def _visit(who: str, address: str) -> Visitor:
    """Call for the model's host at an address."""
    options = (("grpc.default_authority", HOST), ("grpc.enable_retries", 0), ("grpc.enable_http_proxy", 0))
    async with grpc.aio.insecure_channel(address, options=options) as channel:
        method: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(_LIVE)
        call = method(b"", timeout=5)
        status = await call.code()
        return Visitor(who, status.name, await call.details() or "")
