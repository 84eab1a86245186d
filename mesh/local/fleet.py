"""All sidecars of a mesh. Law: a plan is carried out by all of them, or by none.

New sidecars are up before anyone is told of them; those that are gone end once they have no more calls. Envoy lets a
connection go on under the policies that it was made under; when a workload's policies change, its callers connect anew.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path

import aiohttp

from mesh.envoy.admin import Admin
from mesh.istio.proxies import Proxy
from mesh.local.addresses import ADMIN_PORT
from mesh.local.authority import Authority, Certificate
from mesh.local.bootstrap import bootstrap
from mesh.local.config import Config, reconnected
from mesh.local.delivery import Delivery
from mesh.local.failure import MeshError
from mesh.local.files import File, certificate_file
from mesh.local.plan import Plan
from mesh.local.process import start
from mesh.local.sidecar import Sidecar
from mesh.local.workloads import Workload


@dataclass(frozen=True)
class Means:
    """What sidecars are made with: a place for their files, an Envoy, certificates good for `lifetime` by `clock`."""

    place: Path
    binary: Path
    trust_domain: str
    authority: Authority
    lifetime: timedelta
    clock: Callable[[], datetime]
    session: aiohttp.ClientSession
    tell: Callable[[str], None]

    def certificate(self, proxy: Proxy) -> Certificate:
        """A new one for a workload."""
        return self.authority.issue(proxy.spiffe_id(self.trust_domain), self.clock(), self.lifetime)


class Fleet:
    """The sidecars that are up, by their addresses: one that is at another address is another one.

    `issued` is when the oldest of their certificates was issued.
    """

    def __init__(self, means: Means) -> None:
        self._means = means
        self.issued = means.clock()
        self._sidecars: dict[str, Sidecar] = {}
        self._leaving: dict[asyncio.Task[None], Sidecar] = {}
        self._marks: dict[str, int] = {}  # by address: how often its policies have changed

    async def carry_out(self, plan: Plan) -> None:
        """Do as the plan says. Raises MeshError and OSError, and then all is as before."""
        wanted = {workload.proxy.ip: workload for workload in plan.workloads.values()}
        configs = self._marked({address: plan.configs[workload.key] for address, workload in wanted.items()})
        listening = {address: one.config.listeners for address, one in self._sidecars.items() if address in wanted}
        new = wanted.keys() - self._sidecars.keys()
        added = {address: self._new(wanted[address], configs[address]) for address in sorted(new)}
        try:
            await _all(one.start(self._certificate(one)) for one in added.values())
            await self._apply(configs)
        except BaseException:
            await _all(one.stop() for one in added.values())
            raise
        self._marks = {address: mark for address, mark in self._marks.items() if address in wanted}
        removed = [self._sidecars.pop(address) for address in self._sidecars.keys() - wanted.keys()]
        self._sidecars |= added
        for sidecar in removed:
            task = asyncio.create_task(sidecar.leave())
            self._leaving[task] = sidecar
            task.add_done_callback(self._leaving.pop)
        changed = [address for address, before in listening.items() if configs[address].listeners != before]
        await self._reconnect(changed, configs)

    def renew(self) -> None:
        """Give every sidecar a new certificate. Raises OSError."""
        issued = self._means.clock()
        for sidecar in self._sidecars.values():
            sidecar.certify(self._certificate(sidecar))
        self.issued = issued

    async def stop(self) -> None:
        """End every sidecar."""
        leaving = dict(self._leaving)
        for task in leaving:
            task.cancel()
        await asyncio.gather(*leaving, return_exceptions=True)
        await _all(sidecar.stop() for sidecar in (*leaving.values(), *self._sidecars.values()))
        self._sidecars.clear()

    async def _reconnect(self, addresses: Sequence[str], configs: Mapping[str, Config]) -> None:
        """Let the callers of these connect anew."""
        if addresses:
            self._marks |= {address: self._marks.get(address, 0) + 1 for address in addresses}
            try:
                await self._apply(self._marked(configs))
            except (MeshError, OSError) as error:
                self._means.tell(f"callers may go on for a while under the policies that were before: {error}")

    async def _apply(self, configs: Mapping[str, Config]) -> None:
        """Change the sidecars that are there and stay."""
        staying = {address: one for address, one in self._sidecars.items() if address in configs}
        before = {address: one.config for address, one in staying.items()}
        try:
            await _all(one.apply(configs[address]) for address, one in staying.items())
        except (MeshError, OSError):
            await _all(one.apply(before[address]) for address, one in staying.items())
            raise

    def _marked(self, configs: Mapping[str, Config]) -> Mapping[str, Config]:
        return {address: reconnected(config, self._marks) for address, config in configs.items()}

    def _new(self, workload: Workload, config: Config) -> Sidecar:
        means, address = self._means, workload.proxy.ip
        folder = means.place / f"{workload.name}@{address}"
        log = folder.with_name(f"{folder.name}.log")
        beginning = bootstrap(workload, folder, means.authority.secret)
        return Sidecar(
            workload,
            config,
            Delivery(folder, Admin(means.session, f"{address}:{ADMIN_PORT}"), log),
            partial(start, means.binary, beginning, log),
            means.tell,
        )

    def _certificate(self, sidecar: Sidecar) -> File:
        certificate = self._means.certificate(sidecar.workload.proxy)
        return certificate_file(certificate.secret, sidecar.delivery.folder)


async def _all(works: Iterable[Awaitable[None]]) -> None:
    """Do all at once, each to its end, and then raise what the first that failed raised."""
    for outcome in await asyncio.gather(*works, return_exceptions=True):
        if isinstance(outcome, BaseException):
            raise outcome
