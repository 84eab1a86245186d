"""What the tour needs. Law: each part is up when its function returns, and ends with the stack it was put on."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from opentelemetry.trace import Tracer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

from gateway import settings
from headrace.console import busy, live
from headrace.demo import digits, repository, show
from headrace.demo.config import gateway_yaml
from headrace.demo.digits import MODEL, Pictures, Trained
from headrace.demo.processes import ADMIN, METRICS, READY, Child, running, together
from headrace.rendering import source_of
from mesh.local.state import State, find
from mesh.render import folder
from mesh.render.files import mesh_config, render
from protos import tracing

_WAIT: Final = 60.0  # seconds a process may take to come up; a loaded machine is slow, a dead child is seen at once


@dataclass(frozen=True)
class Copy:
    """A worker: the version that it serves, its process, and its addresses for calls and for metrics, HOST:PORT."""

    version: str
    child: Child
    address: str
    metrics: str


@dataclass(frozen=True)
class Surroundings:
    """Where everyone's files are, who issues tokens, and where spans go."""

    folder: Path
    issuer: str
    otlp: str

    @property
    def resources(self) -> Path:
        """The folder of Istio's resources."""
        return self.folder / "istio"

    @property
    def mesh_config(self) -> Path:
        """Istio's MeshConfig."""
        return self.folder / "mesh.yaml"


@dataclass(frozen=True)
class Gateway:
    """The gateway's process, and its addresses for callers and for operators, HOST:PORT."""

    child: Child
    address: str
    admin: str


@dataclass(frozen=True)
class MeshProcess:
    """The mesh's process, the folder of its resources, and what it says of itself."""

    child: Child
    folder: Path
    proxy: str

    @property
    def state(self) -> State:
        """Its sidecars now."""
        return find(self.folder, os.environ)


@contextlib.contextmanager
def progress(console: Console, words: str, total: int) -> Iterator[Callable[[], None]]:
    """A progress bar while inside; what it gives is called once for each of the `total` parts."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    with Progress(*columns, console=console, transient=True, disable=not live(console)) as shown:
        task = shown.add_task(words, total=total)
        yield lambda: shown.advance(task)


async def train(console: Console) -> tuple[Pictures, list[Trained]]:
    """The held-out pictures, and both versions of the model."""
    with progress(console, "Training", digits.EPOCHS + 1) as advance:
        seen, held = await asyncio.to_thread(digits.pictures)
        modest = await asyncio.to_thread(digits.train_modest, seen, held)
        advance()
        better = await asyncio.to_thread(digits.train_better, seen, held, advance)
    for trained in (modest, better):
        show.done(console, f"{MODEL} version {trained.version} trained, exported to ONNX", trained.how)
    return held, [modest, better]


async def workers(
    console: Console, stack: contextlib.AsyncExitStack, at: Surroundings, versions: Sequence[Trained], copies: int
) -> list[Copy]:
    """So many workers for each version. Raises CommandError."""
    names: dict[str, Trained] = {}
    with busy(console, "Starting the workers"):
        for trained in versions:
            await asyncio.to_thread(repository.write, _models(at, trained.version), trained)
            names |= {f"worker {trained.version}{letter}": trained for letter in "abc"[:copies]}
        anywhere = "127.0.0.1:0"
        commands = {name: _worker(at, trained.version, anywhere, anywhere) for name, trained in names.items()}
        children = await stack.enter_async_context(together(commands, at.folder))
        addresses = await asyncio.gather(*(child.says(READY, _WAIT) for child in children))
        pages = await asyncio.gather(*(child.says(METRICS, _WAIT) for child in children))
    found = [
        Copy(trained.version, child, address, page)
        for trained, child, address, page in zip(names.values(), children, addresses, pages, strict=True)
    ]
    for trained in versions:
        own = [copy.address for copy in found if copy.version == trained.version]
        show.done(console, f"{'worker' if copies == 1 else 'workers'} of version {trained.version}", ", ".join(own))
    return found


async def again(stack: contextlib.AsyncExitStack, at: Surroundings, copy: Copy) -> Child:
    """Another worker where one has died. Raises CommandError."""
    name = f"{copy.child.name} again"
    command = _worker(at, copy.version, copy.address, copy.metrics)
    child = await stack.enter_async_context(running(name, command, at.folder))
    await child.says(READY, _WAIT)
    return child


def _worker(at: Surroundings, version: str, listen: str, metrics: str) -> list[str]:
    return [
        *("worker", "--repository", str(_models(at, version)), "--listen", listen, "--drain", "1s"),
        *("--otlp", at.otlp, "--no-logs", "--log-format", "text", "--service", f"worker-{version}"),
        *("--metrics", metrics),
    ]


def _models(at: Surroundings, version: str) -> Path:
    return at.folder / f"models-{version}"


async def mesh(
    console: Console, stack: contextlib.AsyncExitStack, at: Surroundings, copies: Sequence[Copy]
) -> MeshProcess:
    """A sidecar beside each worker, and one for the gateway, by resources written from its settings."""
    await asyncio.to_thread(_render, at, gateway_yaml(at.issuer, _by_version(copies), at.otlp, mesh=True))
    with busy(console, "Starting the mesh"):
        command = ["mesh", "up", str(at.resources), "--proxy", "127.0.0.1:0", "--mesh", str(at.mesh_config)]
        child = await stack.enter_async_context(running("mesh", command, at.folder))
        found = MeshProcess(child, at.resources, await child.says(READY, _WAIT))
    show.done(console, "mesh", f"an Envoy beside each worker and the gateway, mTLS between them; {at.resources}")
    return found


def _render(at: Surroundings, settings_yaml: str) -> None:
    config = at.folder / "headrace.yaml"
    config.write_text(settings_yaml, encoding="utf-8")
    source = source_of(settings.load(config, {}))
    folder.apply(at.resources, folder.changes(render(source, {}), {}))
    at.mesh_config.write_text(mesh_config(source), encoding="utf-8")


async def gateway(
    console: Console,
    stack: contextlib.AsyncExitStack,
    at: Surroundings,
    copies: Sequence[Copy],
    behind: MeshProcess | None,
) -> Gateway:
    """The gateway before the workers, or before the mesh that they are in. Raises CommandError."""
    config = at.folder / "headrace.yaml"
    proxy = behind.proxy if behind else None
    text = gateway_yaml(at.issuer, _by_version(copies), at.otlp, mesh=behind is not None, proxy=proxy)
    config.write_text(text, encoding="utf-8")
    with busy(console, "Starting the gateway"):
        child = await stack.enter_async_context(running("gateway", ["gateway", "--config", str(config)], at.folder))
        found = Gateway(child, await child.says(READY, _WAIT), await child.says(ADMIN, _WAIT))
    show.done(console, "gateway", found.address)
    return found


def _by_version(copies: Sequence[Copy]) -> Mapping[str, Sequence[str]]:
    found: dict[str, list[str]] = {}
    for copy in copies:
        found.setdefault(copy.version, []).append(copy.address)
    return found


@contextlib.asynccontextmanager
async def tracer(otlp: str) -> AsyncIterator[Tracer]:
    """The caller's own tracer; its last spans leave off the loop, which serves the collector that they go to."""
    provider = tracing.provider("headrace-demo", otlp)
    try:
        yield provider.get_tracer("headrace.demo")
    finally:
        await asyncio.to_thread(provider.shutdown)
