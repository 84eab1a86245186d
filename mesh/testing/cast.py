"""Who is there in a mesh under test. Law: a stand-in listens before its sidecar is up, where no real process is."""

from __future__ import annotations

import random
from collections.abc import Mapping

from mesh.local.addresses import STAND_INS, Addresses, is_free
from mesh.local.plan import Plan
from mesh.local.state import Beside, besides
from mesh.local.workloads import Key
from mesh.testing.names import Named
from mesh.testing.worker import Worker


class Cast:
    """Stand-ins for the workloads that serve anything, the sidecars of all, and the name of the gateway, if any."""

    def __init__(self) -> None:
        self.workers: Mapping[str, Worker] = {}
        self.sidecars: Mapping[str, Beside] = {}
        self.gateway: str | None = None
        self._addresses = Addresses(STAND_INS, random.random, is_free)
        self._stand_ins: dict[Key, Worker] = {}

    def process_of(self, key: Key, _written: str) -> str:
        """Where the stand-in for a workload listens, whatever is written: there the real process may be."""
        return self._addresses.of(key)

    def planned(self, plan: Plan) -> None:
        """Let them listen, before anyone can call them."""
        for key, one in self._sidecars(plan).items():
            if one.ports:
                workload = plan.workloads[key]
                new = Worker(workload.name, workload.proxy.labels, one.process)
                self._stand_ins.setdefault(key, new).listen(one.ports)

    def in_force(self, plan: Plan) -> None:
        """Know who is there now."""
        self.sidecars = Named(self._sidecars(plan))
        there = {key: worker for key, worker in self._stand_ins.items() if key in plan.workloads}
        for key, worker in there.items():
            worker.labels = plan.workloads[key].proxy.labels
        self.workers = Named(there)
        self.gateway = plan.workloads[plan.gateway].name if plan.gateway else None

    def worker(self, name: str) -> Worker | None:
        """The stand-in of this name, whether it still is there."""
        return next((worker for worker in self._stand_ins.values() if worker.name == name), None)

    def stop(self) -> None:
        """End the stand-ins."""
        for worker in self._stand_ins.values():
            worker.stop()

    def _sidecars(self, plan: Plan) -> Mapping[Key, Beside]:
        return {(one.namespace, one.name): one for one in besides(plan)}
