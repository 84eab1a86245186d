"""A mesh on one machine, measured. Law: what users wait for and pay for, seen from outside, call by call.

Four workers of two versions, the gateway's sidecar, mTLS, and a rule for who may call. Version 2 answers
INVALID_ARGUMENT, so that each answer tells which version gave it.
"""

from __future__ import annotations

import json
import os
import re
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Final

import grpc
from rich.box import SIMPLE_HEAD
from rich.table import Table

from loadtest.children import Broken, child, free_address
from loadtest.mesh_resources import HOST, Resource, resources, shares
from loadtest.payload import PATH, SHAPES, request
from loadtest.processes import memory, named, tree

_READY: Final = re.compile(r"^headrace mesh ready on (\S+)$")
_STATUSES: Final = {1: 0, 2: 3}  # version -> grpc-status of its workers
_VERSIONS: Final = {grpc.StatusCode.OK: 1, grpc.StatusCode.INVALID_ARGUMENT: 2}
_UP: Final = 60.0  # seconds
_CALLERS: Final = 4
_SETTLED: Final = 50  # calls in a row of one version, after which a change is in force
_IN_FORCE: Final = 10.0  # seconds in which it must be
_MESSAGE: Final = request(SHAPES["small"])


@dataclass(frozen=True, slots=True)
class Round:
    """One mesh: seconds to its first answer, and to each change's effect; bytes of each sidecar.

    `resident` counts what Envoys share as often as there are Envoys; `proportional` once, in equal parts.
    """

    first_answer: float
    changes: Sequence[float]
    calls: int
    failed: int
    resident: Sequence[int]
    proportional: Sequence[int]


def measure_mesh(changes: int) -> Round:
    """Start a mesh, change it so often under load, and end it. Raises Broken."""
    if sys.platform != "linux":
        raise Broken("a mesh on one machine needs Linux")
    cpus = os.sched_getaffinity(0)
    with ExitStack() as stack:
        scratch = Path(stack.enter_context(TemporaryDirectory()))
        log = stack.enter_context((scratch / "log").open("w+"))
        folder = scratch / "istio"
        folder.mkdir()
        workers = {
            f"v{version}-{copy}": stack.enter_context(child(cpus, "-m", "loadtest.backend", str(status), log=log))
            for version, status in _STATUSES.items()
            for copy in "ab"
        }
        _replace(folder / "mesh.yaml", resources({name: one.address for name, one in workers.items()}))
        _replace(folder / "shares.yaml", [shares(1)])
        proxy = free_address()
        command = ("-m", "headrace", "mesh", "up", str(folder), "--proxy", proxy)
        began = time.perf_counter()
        first = stack.enter_context(_first_answer(proxy))
        mesh = stack.enter_context(child(cpus, *command, log=log, ready=_READY))
        answered = first() - began
        callers = stack.enter_context(_calling(proxy))
        taken = [_change(folder, callers, 1 + (number + 1) % 2) for number in range(changes)]
        resident, proportional = _memory(mesh.process.pid)
        return Round(answered, taken, len(callers.done), callers.failed, resident, proportional)


def mesh_table(rounds: Sequence[Round]) -> Table:
    """For people: medians, and the range."""
    made = Table(box=SIMPLE_HEAD, show_edge=False, pad_edge=False)
    for heading in ("", "median", "range"):
        made.add_column(heading, justify="left" if not heading else "right")
    figures: dict[str, tuple[float, list[float], str]] = {
        "from mesh up to the first answer, s": (1, [one.first_answer for one in rounds], ".2f"),
        "from a change to its effect, s": (1, [taken for one in rounds for taken in one.changes], ".2f"),
        "a sidecar's resident memory, MiB": (2**20, [size for one in rounds for size in one.resident], ".0f"),
        "its proportional share (PSS), MiB": (2**20, [size for one in rounds for size in one.proportional], ".0f"),
    }
    for name, (unit, values, form) in figures.items():
        low, middle, high = (format(value / unit, form) for value in (min(values), median(values), max(values)))
        made.add_row(name, middle, f"{low}-{high}")
    return made


class Callers:
    """Calls without end: when each began, and the version that answered (0: it failed)."""

    def __init__(self, proxy: str) -> None:
        self._call = _caller(proxy)
        self._over = threading.Event()
        self._threads = [threading.Thread(target=self._work) for _ in range(_CALLERS)]
        self.done: list[tuple[float, int]] = []

    @property
    def failed(self) -> int:
        """Calls that no worker answered."""
        return sum(version == 0 for _, version in self.done)

    def start(self) -> None:
        """Begin."""
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """End, each after its call."""
        self._over.set()
        for thread in self._threads:
            thread.join()

    def _work(self) -> None:
        while not self._over.is_set():
            began = time.perf_counter()
            self.done.append((began, self._call(10.0)))


@contextmanager
def _calling(proxy: str) -> Iterator[Callers]:
    callers = Callers(proxy)
    callers.start()
    try:
        yield callers
    finally:
        callers.stop()


def _change(folder: Path, callers: Callers, version: int) -> float:
    """Seconds from a change of the weights, all to one version, to the last call that began and went elsewhere."""
    changed = time.perf_counter()
    _replace(folder / "shares.yaml", [shares(version)])
    end = changed + _IN_FORCE
    while time.perf_counter() < end:
        time.sleep(0.02)
        latest = callers.done[-_SETTLED:]
        if latest and latest[0][0] > changed and all(answered in (0, version) for _, answered in latest):
            return max([began - changed for began, answered in callers.done if answered not in (0, version)] + [0.0])
    raise Broken(f"a change was not in force within {_IN_FORCE:g} s")


@contextmanager
def _first_answer(proxy: str) -> Iterator[Callable[[], float]]:
    """Call from now on until there is an answer; what it gives waits for that, and tells when it came."""
    came: list[float] = []
    over = threading.Event()

    def work() -> None:
        while not over.is_set() and not came:
            if _caller(proxy)(1.0):
                came.append(time.perf_counter())
            over.wait(0.005)

    def wait() -> float:
        thread.join(_UP)
        if not came:
            raise Broken(f"no call was answered within {_UP:g} s")
        return came[0]

    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield wait
    finally:
        over.set()
        thread.join()


def _caller(proxy: str) -> Callable[[float], int]:
    """Calls for at most so many seconds; the version that answered, 0 for none."""
    options = (
        ("grpc.default_authority", f"{HOST}:8001"),
        ("grpc.enable_retries", 0),
        ("grpc.use_local_subchannel_pool", 1),
        ("grpc.enable_http_proxy", 0),
    )
    method: grpc.UnaryUnaryMultiCallable[bytes, bytes] = grpc.insecure_channel(proxy, options).unary_unary(PATH)
    return lambda seconds: _VERSIONS.get(method.future(_MESSAGE, timeout=seconds).code(), 0)


def _memory(mesh: int) -> tuple[Sequence[int], Sequence[int]]:
    """Bytes of each Envoy of a mesh, resident and proportional."""
    resident, proportional = zip(*map(memory, named("envoy", tree(mesh))), strict=True)
    return resident, proportional


def _replace(path: Path, documents: Sequence[Resource]) -> None:
    """JSON is YAML; written aside and renamed, as an editor does."""
    aside = path.with_suffix(".new")
    aside.write_text("\n---\n".join(map(json.dumps, documents)))
    aside.rename(path)
