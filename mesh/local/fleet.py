"""All sidecars of a mesh. Law: a plan is carried out by all of them, or by none.

New sidecars are up before anyone is told of them; those that are gone have no more calls before they end.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import aiohttp

from mesh.local.admin import Admin
from mesh.local.authority import Authority
from mesh.local.bootstrap import ADMIN_PORT
from mesh.local.config import Config
from mesh.local.delivery import Delivery
from mesh.local.files import File, secret_file, secret_of
from mesh.local.plan import Plan
from mesh.local.sidecar import Sidecar
from mesh.local.workloads import Key, Workload


@dataclass(frozen=True)
class Means:
    """What sidecars are made with: a place for their files, an Envoy, certificates good for `lifetime`."""

    place: Path
    binary: Path
    trust_domain: str
    lifetime: timedelta
    session: aiohttp.ClientSession
    tell: Callable[[str], None]


class Fleet:
    """The sidecars that are up, by the keys of their workloads."""

    def __init__(self, means: Means) -> None:
        self._means = means
        self._authority = Authority(means.trust_domain, datetime.now(UTC))
        self._sidecars: dict[Key, Sidecar] = {}
        self._configs: Mapping[Key, Config] = {}

    async def carry_out(self, plan: Plan) -> None:
        """Do as the plan says. Raises MeshError, and then all is as before."""
        added = {key: self._new(workload) for key, workload in plan.workloads.items() if key not in self._sidecars}
        removed = [self._sidecars[key] for key in self._sidecars.keys() - plan.workloads.keys()]
        try:
            await _all(one.start(plan.configs[key], self._secrets(one.workload, one)) for key, one in added.items())
            await self._apply(plan)
        except BaseException:
            await _all(one.stop() for one in added.values())
            raise
        await _all(one.idle() for one in removed)
        await _all(one.stop() for one in removed)
        kept = {key: one for key, one in self._sidecars.items() if key in plan.workloads}
        self._sidecars, self._configs = kept | added, plan.configs

    def renew(self) -> None:
        """Give every sidecar a new certificate; running connections stay."""
        for sidecar in self._sidecars.values():
            sidecar.delivery.put(*self._certificate(sidecar.workload, sidecar))

    async def stop(self) -> None:
        """End every sidecar."""
        await _all(sidecar.stop() for sidecar in self._sidecars.values())
        self._sidecars.clear()

    async def _apply(self, plan: Plan) -> None:
        """Change the sidecars that are there and stay."""
        staying = {key: one for key, one in self._sidecars.items() if key in plan.workloads}
        for key, sidecar in staying.items():
            self._identify(sidecar, plan.workloads[key])
        try:
            await _all(sidecar.apply(plan.configs[key]) for key, sidecar in staying.items())
        except BaseException:
            await _all(sidecar.apply(self._configs[key]) for key, sidecar in staying.items())
            raise

    def _identify(self, sidecar: Sidecar, workload: Workload) -> None:
        before = sidecar.workload.proxy.service_account
        sidecar.workload = workload
        if workload.proxy.service_account != before:
            sidecar.delivery.put(*self._certificate(workload, sidecar))

    def _new(self, workload: Workload) -> Sidecar:
        means = self._means
        admin = Admin(means.session, f"{workload.proxy.ip}:{ADMIN_PORT}")
        delivery = Delivery(means.place / workload.name, admin, means.place / f"{workload.name}.log")
        return Sidecar(workload, delivery, means.binary, means.tell)

    def _secrets(self, workload: Workload, sidecar: Sidecar) -> Mapping[str, File]:
        roots = self._authority.secret
        return dict([
            self._certificate(workload, sidecar),
            (secret_of(str(roots["name"])), secret_file(roots, sidecar.delivery.folder)),
        ])  # fmt: skip

    def _certificate(self, workload: Workload, sidecar: Sidecar) -> tuple[str, File]:
        spiffe_id = workload.proxy.spiffe_id(self._means.trust_domain)
        secret = self._authority.issue(spiffe_id, datetime.now(UTC), self._means.lifetime).secret
        return secret_of(str(secret["name"])), secret_file(secret, sidecar.delivery.folder)


async def _all(works: Iterable[Awaitable[None]]) -> None:
    """Do all at once, each to its end, and then raise what the first that failed raised."""
    for outcome in await asyncio.gather(*works, return_exceptions=True):
        if isinstance(outcome, BaseException):
            raise outcome
