"""A mesh for a test. Law: once `running` gives it, a call succeeds or fails by the policies alone.

The mesh lives in a thread with an event loop, so that a test is a plain function. The files are a copy: what a test
changes, the user's folder never sees.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import tempfile
import threading
from collections.abc import Coroutine, Iterator, Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any, Final, TypeVar

from mesh.istio.load import load_mesh_config
from mesh.istio.mesh_config import MeshConfig
from mesh.local.addresses import Addresses, is_free
from mesh.local.binary import find
from mesh.local.plan import Gateway, Plan
from mesh.local.state import Beside, state_of
from mesh.local.up import LocalMesh, Options, Watcher
from mesh.local.up import running as mesh_running
from mesh.local.workloads import Key
from mesh.testing import resources
from mesh.testing.caller import INFER, Asked, Caller
from mesh.testing.calls import Call, Calls
from mesh.testing.resources import Labels, Services
from mesh.testing.worker import Worker

T = TypeVar("T")

_LIFETIME: Final = timedelta(days=1)
_NO_LABELS: Final[Labels] = {}
_NO_SERVICES: Final[Services] = {}


@contextlib.contextmanager
def running(
    folder: str | Path,
    *,
    services: Services = _NO_SERVICES,
    caller: str = "infer/gateway",
    caller_labels: Labels = _NO_LABELS,
    mesh_config: Path | None = None,
    lifetime: timedelta = _LIFETIME,
) -> Iterator[Mesh]:
    """Istio resources of a folder (or file) in force while inside, among stand-ins for all their workloads.

    `services`, HOST:PORT -> labels of each copy, are for resources that leave it to Kubernetes which pods there are;
    they are called by `caller`, NAMESPACE/SERVICE_ACCOUNT. Raises RefusedError: a resource cannot be used; MeshError.
    """
    with contextlib.ExitStack() as stack:
        scratch = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="mesh-testing-")))
        copy, place = scratch / "resources", scratch / "envoys"
        copy.mkdir()
        place.mkdir()
        resources.copied(Path(folder), copy)
        if services:
            (copy / resources.ADDED).write_text(resources.written(services, caller, caller_labels))
        mesh = Mesh(copy, stack.enter_context(_loop()))
        stack.callback(mesh.close)
        config = load_mesh_config(mesh_config) if mesh_config else MeshConfig()
        options = Options(copy, find(None), config, Gateway(), lifetime, mesh.process_of)
        stack.enter_context(mesh.in_force(options, place))
        yield mesh


class Mesh:
    """Resources in force. `workers` are the stand-ins, and `sidecars` all sidecars, by the names of WorkloadEntries."""

    def __init__(self, folder: Path, loop: Loop) -> None:
        self.workers: dict[str, Worker] = {}
        self.sidecars: Mapping[str, Beside] = {}
        self.told: list[str] = []
        self._folder = folder
        self._loop = loop
        self._gateway = ""
        self._local: LocalMesh | None = None
        self._addresses = Addresses(random.random, is_free)
        self._callers: dict[tuple[str, str], Caller] = {}

    # ---- calls ----

    def call(self, to: str, method: str = INFER, *, timeout: float = 10.0, via: str = "", **headers: str) -> Call:
        """Call HOST:PORT once, as the gateway, or as the workload `via`. `_` in names of headers is `-`."""
        return self._caller(to, via).call(_asked(method, headers, timeout))

    def calls(
        self,
        to: str,
        times: int,
        method: str = INFER,
        *,
        at_once: int = 8,
        timeout: float = 10.0,
        via: str = "",
        **headers: str,
    ) -> Calls:
        """Call so often, so many at once."""
        return self._caller(to, via).calls(_asked(method, headers, timeout), times, at_once)

    @contextlib.contextmanager
    def calling(
        self, to: str, method: str = INFER, *, at_once: int = 4, timeout: float = 10.0, via: str = "", **headers: str
    ) -> Iterator[list[Call]]:
        """Call without end while inside; the list has every call afterwards."""
        with self._caller(to, via).calling(_asked(method, headers, timeout), at_once) as done:
            yield done

    def call_in_plain_text(self, worker: str, method: str = INFER, *, timeout: float = 10.0, **headers: str) -> Call:
        """Call a worker's sidecar as one who is not of the mesh."""
        sidecar = self.sidecars[worker]
        caller = Caller(f"{sidecar.address}:{sidecar.ports[0]}", worker, self.workers)
        try:
            return caller.call(_asked(method, headers, timeout))
        finally:
            caller.close()

    # ---- changes ----

    def write(self, name: str, text: str) -> None:
        """Write a file of resources, anew or instead of one that is there, and return once it is in force.

        Raises RefusedError, MeshError; what was before is then in force, and in the file.
        """
        path = self._folder / name
        before = path.read_text() if path.exists() else None
        path.write_text(text)
        try:
            self._loop.run(self._in_force().carry_out())
        except BaseException:
            path.unlink() if before is None else path.write_text(before)
            raise

    def remove(self, kind: str, name: str) -> None:
        """Take a resource away, and return once that is in force. LookupError: it is not there."""
        for path in sorted(self._folder.iterdir()):
            if (rest := resources.without(path.read_text(), kind, name)) is not None:
                return self.write(path.name, rest)
        raise LookupError(f"there is no {kind} {name}")

    def renew_certificates(self) -> None:
        """Give every sidecar a new certificate."""

        async def renew() -> None:
            self._in_force().renew()

        self._loop.run(renew())

    # ---- for `running` ----

    @contextlib.contextmanager
    def in_force(self, options: Options, place: Path) -> Iterator[None]:
        """The mesh itself, while inside."""
        watcher = Watcher(lambda plan: self._planned(plan, options), self.told.append)
        entered = mesh_running(options, place, watcher)
        self._local = self._loop.run(entered.__aenter__())
        try:
            yield
        finally:
            self._loop.run(entered.__aexit__(None, None, None))

    def process_of(self, key: Key, _written: str) -> str:
        """Where the stand-in for a workload listens, whatever is written: there the real one may be."""
        return self._addresses.of(key)

    def close(self) -> None:
        """End callers and stand-ins."""
        for caller in self._callers.values():
            caller.close()
        for worker in self.workers.values():
            worker.stop()

    def _planned(self, plan: Plan, options: Options) -> None:
        state = state_of(plan, self._folder, os.getpid(), options.gateway)
        self.sidecars = {one.name: one for one in state.workloads}
        self._gateway = plan.gateway[1] if plan.gateway else ""
        for workload in plan.workloads.values():
            name, sidecar = workload.proxy.name, self.sidecars[workload.proxy.name]
            if sidecar.ports and name not in self.workers:
                worker = Worker(name, workload.proxy.labels, workload.process, sidecar.ports)
                worker.start()
                self.workers[name] = worker

    def _in_force(self) -> LocalMesh:
        assert self._local is not None  # noqa: S101 - it is there while the mesh is in force
        return self._local

    def _caller(self, to: str, via: str) -> Caller:
        key = (via or self._gateway, to)
        if key not in self._callers:
            self._callers[key] = Caller(self.sidecars[key[0]].outbound, to, self.workers)
        return self._callers[key]


def _asked(method: str, headers: Mapping[str, str], timeout: float) -> Asked:
    return Asked(method, {name.replace("_", "-"): value for name, value in headers.items()}, timeout)


class Loop:
    """An event loop in a thread of its own."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """What the work gives, once it is done there."""
        return asyncio.run_coroutine_threadsafe(work, self._loop).result()


@contextlib.contextmanager
def _loop() -> Iterator[Loop]:
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, name="mesh")
    thread.start()
    try:
        yield Loop(loop)
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()
