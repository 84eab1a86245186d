"""The real Prometheus and Alertmanager over somebody's metrics, and a webhook that hears of alerts."""

from __future__ import annotations

import asyncio
import contextlib
import math
import shutil
import time
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from headrace.observability import prometheus
from headrace.observability.files import as_yaml
from headrace.observability.prometheus import Receivers, Targets
from headrace.observability.query import Prometheus
from headrace.observability.thresholds import Burn, Objectives, Thresholds, Timing
from tests.gateway.world import unused_address

PROGRAMS = ("prometheus", "alertmanager")
needs_prometheus = pytest.mark.skipif(
    not all(map(shutil.which, PROGRAMS)), reason="no prometheus and alertmanager: tests/interop/tools.sh"
)
# The same expressions, over seconds.
TIMING = Timing("500ms", "6s", Burn("4s", "12s", 14.4), Burn("8s", "24s", 6.0), soon="1s", late="2s")
WAIT = 60.0  # seconds until an alert arrives, or clears
_START = 30.0


@dataclass
class Watching:
    """Prometheus, and what its alerts have told the webhook: (severity that it was posted for, alert), in order."""

    prometheus: Prometheus
    timing: Timing
    posted: list[tuple[str, dict[str, Any]]] = field(default_factory=list)

    async def hears(self, alert: str, status: str, since: int = 0, **labels: str) -> tuple[str, dict[str, Any]]:
        """The first that was posted of that alert from `since` on, `firing` or `resolved`, with these labels."""

        def found() -> list[tuple[str, dict[str, Any]]]:
            return [
                (path, one)
                for path, one in self.posted[since:]
                if one["labels"]["alertname"] == alert
                and one["status"] == status
                and labels.items() <= one["labels"].items()
            ]

        await until(lambda: bool(found()), f"{alert} {status} {labels}: {self.names()}")
        return found()[0]

    def names(self) -> list[str]:
        """What was heard, in short."""
        return [f"{one['labels']['alertname']} {one['status']}" for _, one in self.posted]

    async def has(self, expression: str) -> list[tuple[Any, float]]:
        """What a query finds, once it does; a series without calls has no number (0 / 0), and is none."""
        deadline = time.monotonic() + WAIT
        while not (found := [one for one in await self.prometheus.now(expression) if not math.isnan(one[1])]):
            assert time.monotonic() < deadline, f"nothing: {expression}"
            await asyncio.sleep(0.2)
        return found


async def until(condition: Callable[[], bool], told: str, wait: float = WAIT) -> None:
    deadline = time.monotonic() + wait
    while not condition():
        assert time.monotonic() < deadline, told
        await asyncio.sleep(0.05)


@contextlib.asynccontextmanager
async def watching(folder: Path, targets: Targets, *features: str) -> AsyncIterator[Watching]:
    """Both run while inside; `features` are Prometheus's. Everything that they write is in `folder`."""
    server, manager = unused_address(), unused_address()
    async with contextlib.AsyncExitStack() as stack:
        session = await stack.enter_async_context(aiohttp.ClientSession())
        heard = Watching(Prometheus(session, f"http://{server}"), TIMING)
        hook = await stack.enter_async_context(_hook(heard))
        _write(folder, Targets(targets.gateways, targets.workers, targets.sidecars, manager), hook)
        switches = ["--enable-feature=" + ",".join(("exemplar-storage", *features))]
        commands = (
            ("alertmanager", f"--config.file={folder}/alertmanager.yml", f"--storage.path={folder}/alerts",
             f"--web.listen-address={manager}", "--cluster.listen-address="),
            ("prometheus", f"--config.file={folder}/prometheus.yml", f"--storage.tsdb.path={folder}/series",
             f"--web.listen-address={server}", "--rules.alert.resend-delay=1s", *switches),
        )  # fmt: skip
        for command in commands:
            await stack.enter_async_context(_running(folder, command))
        await _ready(session, f"http://{manager}/-/ready", f"http://{server}/-/ready")
        yield heard


def _write(folder: Path, targets: Targets, hook: str) -> None:
    documents = {
        "prometheus.yml": prometheus.prometheus(targets, TIMING),
        "objectives.yml": prometheus.objectives(Objectives(), TIMING),
        "rules.yml": prometheus.recordings(TIMING),
        "alerts.yml": prometheus.alerting(TIMING, Thresholds()),
        "alertmanager.yml": prometheus.alertmanager(
            Receivers(f"{hook}/critical", f"{hook}/warning"), wait="0s", again="1s"
        ),
    }
    for name, document in documents.items():
        (folder / name).write_text(as_yaml(document))


@contextlib.asynccontextmanager
async def _hook(heard: Watching) -> AsyncIterator[str]:
    async def take(request: web.Request) -> web.Response:
        document = await request.json()
        heard.posted += [(request.path, alert) for alert in document["alerts"]]
        return web.Response()

    app = web.Application()
    app.router.add_post("/{severity}", take)
    runner = web.AppRunner(app, access_log=None, handle_signals=False, shutdown_timeout=1)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        host, port = runner.addresses[0][:2]
        yield f"http://{host}:{port}"
    finally:
        await runner.cleanup()


@contextlib.asynccontextmanager
async def _running(folder: Path, command: Sequence[str]) -> AsyncIterator[None]:
    log = folder / f"{command[0]}.log"
    with log.open("wb") as output:
        process = await asyncio.create_subprocess_exec(*command, stdout=output, stderr=output, cwd=folder)
    try:
        yield
        assert process.returncode is None, log.read_text()
    finally:
        if process.returncode is None:
            process.terminate()
        try:
            await asyncio.wait_for(process.wait(), 20)
        except TimeoutError:
            process.kill()
            await process.wait()


async def _ready(session: aiohttp.ClientSession, *pages: str) -> None:
    async with asyncio.timeout(_START):
        for page in pages:
            while not await _answers(session, page):
                await asyncio.sleep(0.05)


async def _answers(session: aiohttp.ClientSession, page: str) -> bool:
    try:
        async with session.get(page) as answer:
            return answer.status == 200
    except aiohttp.ClientError:
        return False
