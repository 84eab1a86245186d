"""`headrace demo`, composed. Law: whatever ends it, what it started ends first, in the opposite order.

Everything lives in one event loop and on one exit stack; a signal cancels the work, and the stack unwinds.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import tempfile
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import aiohttp
from opentelemetry.trace import Tracer
from rich.console import Console

from headrace.client import Client
from headrace.console import busy
from headrace.demo import samples, show, stage, state, tour
from headrace.demo.digits import MODEL, Pictures, Trained
from headrace.demo.flow import AT_ONCE
from headrace.demo.issuer import Issuer
from headrace.demo.mesh_tour import MeshTour
from headrace.demo.processes import unless_death
from headrace.failure import CommandError
from headrace.flow import flow
from headrace.interrupt import interruptible
from headrace.traces.collector import Collector, collecting
from headrace.traces.store import Store

_COPIES: Final = 2  # of each version, behind a mesh: one may fail


def run(console: Console, program: str, *, stay: bool, mesh: bool) -> int:
    """The demo; 0 once the tour did what it says (with `stay`: and a signal has ended it). Raises CommandError."""
    return asyncio.run(_interruptible(Demo(console, program, stay=stay, mesh=mesh)))


async def _interruptible(demo: Demo) -> int:
    if await interruptible(demo.run(), lambda: show.stopping(demo.console)) and not demo.toured:
        raise CommandError("stopped before the tour was over")
    return 0


@dataclass(frozen=True)
class Cast:
    """Everyone on stage. `calls` are of `digits`, with a good token; `behind` the mesh, if there is one."""

    issuer: Issuer
    collector: Collector
    client: Client
    tracer: Tracer
    held: Pictures
    versions: Sequence[Trained]
    copies: Sequence[stage.Copy]
    behind: stage.MeshProcess | None


class Demo:
    """One run of the demo, shown on `console`; `toured` once every step did what it says."""

    def __init__(self, console: Console, program: str, *, stay: bool, mesh: bool) -> None:
        self.toured = False
        self.console = console
        self._program = program
        self._stay = stay
        self._mesh = mesh

    async def run(self) -> None:
        """Set up, tour, and stay where asked to. Raises CommandError."""
        console = self.console
        async with contextlib.AsyncExitStack() as stack:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="headrace-demo-")))  # mode 0700
            held, versions = await stage.train(console)
            await asyncio.to_thread(samples.write, folder / "samples", held)
            issuer = await stack.enter_async_context(Issuer().serving())
            show.done(console, "issuer of tokens", issuer.url)
            collector = await stack.enter_async_context(collecting(Store()))
            show.done(console, "collector of traces", f"{collector.url}, asked at {collector.query}")
            at = stage.Surroundings(folder, issuer.url, collector.url)
            copies = await stage.workers(console, stack, at, versions, _COPIES if self._mesh else 1)
            behind = await stage.mesh(console, stack, at, copies) if self._mesh else None
            gateway = await stage.gateway(console, stack, at, copies, behind)
            found = state.State(
                os.getpid(),
                gateway.address,
                gateway.admin,
                issuer.url,
                issuer.secret,
                str(folder / "samples"),
                collector.query,
                [copy.metrics for copy in copies],
            )
            stack.enter_context(state.published(found, state.folder(os.environ)))
            client = await stack.enter_async_context(Client(gateway.address))
            tracer = await stack.enter_async_context(stage.tracer(collector.url))
            cast = Cast(issuer, collector, client, tracer, held, versions, copies, behind)
            children = [gateway.child, *([behind.child] if behind else []), *(copy.child for copy in _spared(copies))]
            await unless_death(children, self._tour(cast, at, stack))
            show.next_steps(console, found, self._program, behind.folder if behind else None, stay=self._stay)
            self.toured = True
            if self._stay:
                show.title(console, "The demo stays up; Ctrl-C ends it.")
                await unless_death(children, asyncio.Event().wait())

    async def _tour(self, cast: Cast, at: stage.Surroundings, stack: contextlib.AsyncExitStack) -> None:
        console, token = self.console, cast.issuer.token()
        signature = await cast.client.signature(MODEL, token=token)
        caller = tour.Caller(cast.client, token, cast.held, signature)
        show.title(console, f"{len(cast.held.labels)} held-out pictures through the gateway, {tour.AT_ONCE} at a time")
        with stage.progress(console, "Calling", len(cast.held.labels) * (len(cast.versions) + 1)) as advance:
            scores = [await caller.score(trained, advance) for trained in cast.versions]
            reached = await caller.split(advance)
        show.scores(console, scores)
        show.split(console, reached)
        lanes = await tour.lanes(cast.collector, sum(score.pictures for score in scores) + sum(reached.values()))
        show.lanes(console, lanes)
        if cast.behind is not None:
            await self._mesh_tour(cast, cast.behind, caller, at, stack)
        show.title(console, "Calls that the gateway refuses")
        show.rejections(console, await tour.rejections(cast.client, cast.issuer, cast.held.pixels[0], signature))
        last = cast.versions[-1].version
        for asked, words in (("canary", "the version called canary"), (last, f"version {last}")):
            show.title(console, f"The trace of a call that asked for {words}")
            trace_id = await caller.traced(cast.tracer, asked)
            show.trace(console, await tour.trace(cast.collector, trace_id, last, meshed=cast.behind is not None))

    async def _mesh_tour(
        self, cast: Cast, behind: stage.MeshProcess, caller: tour.Caller, at: stage.Surroundings, stack: AsyncExitStack
    ) -> None:
        console, session = self.console, await stack.enter_async_context(aiohttp.ClientSession())
        mesh = MeshTour(behind, caller.one, session)
        dies, stops = cast.copies[0], cast.copies[-1]
        began = await mesh.look()
        show.title(console, f"The mesh, while calls flow: {AT_ONCE} at a time, none may fail")
        with busy(console, "Shifting"):
            shifted = await mesh.shift(50, 50)
        show.shift(console, shifted)
        with busy(console, "Killing a worker"):
            outage = await mesh.outage(dies, signal.SIGKILL)
        show.outage(console, outage, "killed")
        with busy(console, "Stopping a worker"):
            outage = await mesh.outage(stops, signal.SIGSTOP)
            os.kill(stops.child.process.pid, signal.SIGCONT)
            back = await mesh.returned(stops)
        show.outage(console, outage, "hangs", back)
        with busy(console, "Starting a worker"):
            await stage.again(stack, at, dies)
            await mesh.returned(dies)
        show.done(console, f"{dies.child.name} started again, and back among the copies")
        show.title(console, "Who may call a worker, says the worker's sidecar")
        show.visitors(console, await mesh.visitors())
        show.title(console, "What has flowed, as the gateway's Envoy counts: headrace mesh status")
        console.print(flow(await mesh.flows(began), console.options))


def _spared(copies: Sequence[stage.Copy]) -> Sequence[stage.Copy]:
    """The workers that nothing is done to on purpose; with one copy of each version, all."""
    return copies if len(copies) == len({copy.version for copy in copies}) else copies[1:]
