"""A mesh for a test. Law: once `running` gives it, a call succeeds or fails by the policies alone.

The mesh lives in a thread with an event loop, so that a test is a plain function. The files are a copy: what a test
changes, the user's folder never sees.
"""

from __future__ import annotations

import asyncio
import contextlib
import tempfile
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Final

from mesh.istio.load import load_mesh_config
from mesh.istio.mesh_config import MeshConfig
from mesh.local.binary import find
from mesh.local.files import put
from mesh.local.plan import Gateway
from mesh.local.state import Beside
from mesh.local.up import LocalMesh, Options, Watcher
from mesh.local.up import running as up
from mesh.testing import resources
from mesh.testing.caller import INFER, Asked, Caller
from mesh.testing.calls import Call, Calls
from mesh.testing.cast import Cast
from mesh.testing.resources import Files, Labels, Services
from mesh.testing.thread import Lived, beside
from mesh.testing.worker import Worker

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
) -> Iterator[Mesh]:
    """Istio resources of a folder (or file) in force while inside, among stand-ins for all their workloads.

    A workload is a WorkloadEntry with a serviceAccount. `services`, HOST:PORT -> labels of each copy, are for resources
    that leave it to Kubernetes which pods there are; they are called by `caller`, NAMESPACE/SERVICE_ACCOUNT. Raises
    RefusedError: a resource cannot be used; ValueError: an argument cannot; MeshError.
    """
    with contextlib.ExitStack() as stack:
        scratch = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="mesh-testing-")))
        files, place = resources.copied(Path(folder), scratch / "resources"), scratch / "envoys"
        place.mkdir()
        if services:
            put(files.copy / resources.ADDED, resources.written(services, caller, caller_labels))
        config = load_mesh_config(mesh_config) if mesh_config else MeshConfig()
        cast, told = Cast(), list[str]()
        stack.callback(cast.stop)
        options = Options(files.copy, find(None), config, Gateway(), _LIFETIME, cast.process_of)
        watcher = Watcher(cast.planned, cast.in_force, told.append)
        with files.told_of():
            lived = stack.enter_context(beside(_kept(options, place, watcher)))
        mesh = Mesh(files, lived, cast, told)
        stack.callback(mesh.close)
        yield mesh


@contextlib.asynccontextmanager
async def _kept(options: Options, place: Path, watcher: Watcher) -> AsyncIterator[LocalMesh]:
    """A mesh that changes with issuers' keys; with the folder it changes when it is told to."""
    async with up(options, place, watcher) as mesh:
        keys = asyncio.create_task(mesh.keep_keys())
        try:
            yield mesh
        finally:
            keys.cancel()
            await asyncio.gather(keys, return_exceptions=True)


class Mesh:
    """Resources in force.

    `workers` are the stand-ins and `sidecars` all sidecars, by NAME or NAME.NAMESPACE of their WorkloadEntries; `told`
    is what `headrace mesh up` would tell.
    """

    def __init__(self, files: Files, lived: Lived[LocalMesh], cast: Cast, told: Sequence[str]) -> None:
        self.told = told
        self._files = files
        self._lived = lived
        self._cast = cast
        self._callers: dict[tuple[str, str], Caller] = {}

    @property
    def workers(self) -> Mapping[str, Worker]:
        """The stand-ins."""
        return self._cast.workers

    @property
    def sidecars(self) -> Mapping[str, Beside]:
        """The sidecars."""
        return self._cast.sidecars

    def worker(self, **labels: str) -> Worker:
        """The one worker that has these labels. Raises LookupError."""
        found = [worker for worker in self.workers.values() if labels.items() <= worker.labels.items()]
        if len(found) != 1:
            raise LookupError(f"{len(found)} workers have {labels}: {', '.join(one.name for one in found) or 'none'}")
        return found[0]

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
    ) -> Iterator[Calls]:
        """Call without end while inside; what it gives grows meanwhile, and has every call afterwards."""
        with self._caller(to, via).calling(_asked(method, headers, timeout), at_once) as calls:
            yield calls

    def call_in_plain_text(self, worker: str, method: str = INFER, *, timeout: float = 10.0, **headers: str) -> Call:
        """Call a worker's sidecar as one who is not of the mesh."""
        sidecar = self.sidecars[worker]
        caller = Caller(f"{sidecar.address}:{sidecar.ports[0]}", worker, self._cast.worker)
        try:
            return caller.call(_asked(method, headers, timeout))
        finally:
            caller.close()

    def write(self, name: str, text: str) -> None:
        """Write a file of resources, anew or instead of one that is there, and return once it is in force.

        Raises RefusedError, MeshError; what was before is then in force, and in the file.
        """
        path = self._files.copy / name
        before = path.read_text() if path.exists() else None
        put(path, text)
        try:
            with self._files.told_of():
                self._lived.run(self._lived.value.carry_out())
        except BaseException:
            path.unlink() if before is None else put(path, before)
            raise

    def remove(self, kind: str, name: str, namespace: str | None = None) -> None:
        """Take a resource away (of any namespace: None), and return once that is in force. Raises LookupError."""
        for path in sorted(self._files.copy.iterdir()):
            if (rest := resources.without(path.read_text(), kind, name, namespace)) is not None:
                return self.write(path.name, rest)
        raise LookupError(f"there is no {kind} {name}")

    def renew_certificates(self) -> None:
        """Give every sidecar a new certificate."""

        async def renew() -> None:
            self._lived.value.renew()

        self._lived.run(renew())

    def close(self) -> None:
        """End what has called."""
        for caller in self._callers.values():
            caller.close()

    def _caller(self, to: str, via: str) -> Caller:
        whose = via or self._cast.gateway
        if whose is None:
            raise LookupError(f"who calls? Name a workload by `via`: {', '.join(self.sidecars)}")
        key = self.sidecars[whose].outbound, to
        if key not in self._callers:
            self._callers[key] = Caller(*key, self._cast.worker)
        return self._callers[key]


def _asked(method: str, headers: Mapping[str, str], timeout: float) -> Asked:
    return Asked(method, {name.replace("_", "-"): value for name, value in headers.items()}, timeout)
