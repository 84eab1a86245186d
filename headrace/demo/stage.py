"""What the tour needs. Law: each part is up when its function returns, and ends with the stack it was put on."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from opentelemetry.trace import Tracer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

from headrace.console import busy, live
from headrace.demo import digits, repository, show
from headrace.demo.collector import Collector
from headrace.demo.config import gateway_yaml
from headrace.demo.digits import MODEL, Pictures, Trained
from headrace.demo.issuer import Issuer
from headrace.demo.processes import ADMIN, READY, Child, running, together
from protos import tracing

_WAIT: Final = 60.0  # seconds a process may take to come up; a loaded machine is slow, a dead child is seen at once


@dataclass(frozen=True)
class Gateway:
    """The gateway's process, and its addresses for callers and for operators, HOST:PORT."""

    child: Child
    address: str
    admin: str


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
    console: Console, stack: contextlib.AsyncExitStack, folder: Path, versions: Sequence[Trained], otlp: str
) -> dict[str, tuple[Child, str]]:
    """A worker for each version: version -> its process and its address. Raises CommandError."""
    commands: dict[str, list[str]] = {}
    with busy(console, "Starting the workers"):
        for trained in versions:
            models = await asyncio.to_thread(repository.write, folder / f"models-{trained.version}", trained)
            arguments = ["worker", "--repository", str(models), "--listen", "127.0.0.1:0", "--drain", "1s"]
            arguments += ["--otlp", otlp, "--service", f"worker-{trained.version}"]
            commands[f"worker of version {trained.version}"] = arguments
        children = await stack.enter_async_context(together(commands, folder))
        addresses = await asyncio.gather(*(child.says(READY, _WAIT) for child in children))
    for child, address in zip(children, addresses, strict=True):
        show.done(console, child.name, address)
    return {trained.version: up for trained, up in zip(versions, zip(children, addresses, strict=True), strict=True)}


async def gateway(
    console: Console,
    stack: contextlib.AsyncExitStack,
    folder: Path,
    issuer: Issuer,
    endpoints: dict[str, str],
    collector: Collector,
) -> Gateway:
    """The gateway before the workers at `endpoints` (version -> address). Raises CommandError."""
    config = folder / "headrace.yaml"
    config.write_text(gateway_yaml(issuer.url, endpoints, collector.url), encoding="utf-8")
    with busy(console, "Starting the gateway"):
        child = await stack.enter_async_context(running("gateway", ["gateway", "--config", str(config)], folder))
        found = Gateway(child, await child.says(READY, _WAIT), await child.says(ADMIN, _WAIT))
    show.done(console, "gateway", found.address)
    return found


@contextlib.asynccontextmanager
async def tracer(otlp: str) -> AsyncIterator[Tracer]:
    """The caller's own tracer; its last spans leave off the loop, which serves the collector that they go to."""
    provider = tracing.provider("headrace-demo", otlp)
    try:
        yield provider.get_tracer("headrace.demo")
    finally:
        await asyncio.to_thread(provider.shutdown)
