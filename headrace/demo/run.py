"""`headrace demo`, composed. Law: whatever ends it, what it started ends first, in the opposite order.

Everything lives in one event loop and on one exit stack; a signal cancels the work, and the stack unwinds.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import tempfile
from collections.abc import Sequence
from pathlib import Path

from opentelemetry.trace import Tracer
from rich.console import Console

from headrace.client import Client
from headrace.demo import samples, show, stage, state, tour
from headrace.demo.collector import Collector
from headrace.demo.digits import MODEL, Pictures, Trained
from headrace.demo.issuer import Issuer
from headrace.demo.processes import unless_death
from headrace.failure import CommandError
from headrace.interrupt import interruptible


def run(console: Console, program: str, *, stay: bool) -> int:
    """The demo; 0 once the tour did what it says (with `stay`: and a signal has ended it). Raises CommandError."""
    return asyncio.run(_interruptible(Demo(console, program, stay=stay)))


async def _interruptible(demo: Demo) -> int:
    if await interruptible(demo.run(), lambda: show.stopping(demo.console)) and not demo.toured:
        raise CommandError("stopped before the tour was over")
    return 0


class Demo:
    """One run of the demo, shown on `console`; `toured` once every step did what it says."""

    def __init__(self, console: Console, program: str, *, stay: bool) -> None:
        self.toured = False
        self.console = console
        self._program = program
        self._stay = stay

    async def run(self) -> None:
        """Set up, tour, and stay where asked to. Raises CommandError."""
        console = self.console
        async with contextlib.AsyncExitStack() as stack:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="headrace-demo-")))  # mode 0700
            held, versions = await stage.train(console)
            await asyncio.to_thread(samples.write, folder / "samples", held)
            issuer = await stack.enter_async_context(Issuer().serving())
            show.done(console, "issuer of tokens", issuer.url)
            collector = await stack.enter_async_context(Collector().serving())
            show.done(console, "collector of traces", collector.url)
            workers = await stage.workers(console, stack, folder, versions, collector.url)
            endpoints = {version: address for version, (_, address) in workers.items()}
            gateway = await stage.gateway(console, stack, folder, issuer, endpoints, collector)
            children = [gateway.child, *(child for child, _ in workers.values())]
            found = state.State(
                os.getpid(), gateway.address, gateway.admin, issuer.url, issuer.secret, str(folder / "samples")
            )
            stack.enter_context(state.published(found, state.folder(os.environ)))
            client = await stack.enter_async_context(Client(gateway.address))
            tracer = await stack.enter_async_context(stage.tracer(collector.url))
            await unless_death(children, self._tour(client, issuer, collector, tracer, held, versions))
            show.next_steps(console, found, self._program, stay=self._stay)
            self.toured = True
            if self._stay:
                show.title(console, "The demo stays up; Ctrl-C ends it.")
                await unless_death(children, asyncio.Event().wait())

    async def _tour(
        self,
        client: Client,
        issuer: Issuer,
        collector: Collector,
        tracer: Tracer,
        held: Pictures,
        versions: Sequence[Trained],
    ) -> None:
        console, token = self.console, issuer.token()
        signature = await client.signature(MODEL, token=token)
        caller = tour.Caller(client, token, held, signature)
        show.title(console, f"{len(held.labels)} held-out pictures through the gateway, {tour.AT_ONCE} at a time")
        with stage.progress(console, "Calling", len(held.labels) * (len(versions) + 1)) as advance:
            scores = [await caller.score(trained, advance) for trained in versions]
            reached = await caller.split(advance)
        show.scores(console, scores)
        show.split(console, reached)
        show.title(console, "Calls that the gateway refuses")
        show.rejections(console, await tour.rejections(client, issuer, held.pixels[0], signature))
        show.title(console, "The trace of one call, which asked for the version called canary")
        trace_id = await caller.traced(tracer, "canary")
        show.trace(console, await tour.trace(collector, trace_id, versions[-1].version))
