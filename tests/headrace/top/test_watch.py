"""Looking again and again, at a page that comes and goes."""

from __future__ import annotations

import asyncio
import io
import json
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager

import aiohttp
import pytest
from rich.console import Console

from headrace.failure import CommandError
from headrace.top import watch
from headrace.top.source import AwayError, Source, behind
from headrace.top.watch import Asked
from mesh.status.counts import Copies, Counts
from mesh.status.models import Model
from mesh.status.models import Version as Weighted
from mesh.status.rows import Look
from protos.metrics.instruments import Registry
from tests.gateway.world import unused_address
from tests.headrace.top.stand_in import Gateway

OFTEN = 0.02  # seconds


@asynccontextmanager
async def source(url: str, *envoys: str) -> AsyncIterator[Source]:
    async with aiohttp.ClientSession() as session:
        yield Source(session, url, envoys)


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0.005)


@asynccontextmanager
async def calling(gateway: Gateway) -> AsyncIterator[None]:
    async def call() -> None:
        while True:
            gateway.calls(1, "digits", "1")
            await asyncio.sleep(OFTEN / 4)

    task = asyncio.create_task(call())
    try:
        yield
    finally:
        task.cancel()


@asynccontextmanager
async def running(work: Awaitable[None]) -> AsyncIterator[None]:
    task = asyncio.ensure_future(work)
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def test_it_is_told_as_often_as_asked() -> None:
    gateway, told = Gateway(), list[str]()
    async with gateway.serving() as url, source(url) as its, calling(gateway):
        await watch.as_json(its, Asked(OFTEN, 3, None), told.append)
    found = [json.loads(each) for each in told]
    assert len(found) == 3
    for each in found:
        assert each["gateway"] == url and each["seconds"] >= OFTEN / 2
        (row,) = each["rows"]
        assert row["model"] == "digits" and row["rate"] > 0 and row["ok"] == 1
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", each["time"])


@pytest.mark.parametrize("columns", [None, "60"])
async def test_a_pipe_gets_lines_as_wide_as_they_need_to_be(
    columns: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("COLUMNS", raising=False)
    if columns:
        monkeypatch.setenv("COLUMNS", columns)
    gateway, name = Gateway(), "m" * 90
    gateway.calls(1, name, "1")
    async with gateway.serving() as url, source(url) as its:
        console = Console(file=io.StringIO())
        await watch.lines(its, Asked(OFTEN, 2, None), console)
    told = console.file.getvalue()
    assert told.count("headrace top") == 2 and "\x1b" not in told
    assert (name in told) == (columns is None)


async def test_who_is_away_is_waited_for_on_a_terminal() -> None:
    gateway, address = Gateway(), unused_address()
    console = Console(file=io.StringIO(), force_terminal=True, width=80, height=24)

    def shown() -> str:
        """What was drawn since this was asked last."""
        told = console.file.getvalue()
        console.file.seek(0)
        console.file.truncate()
        return told

    async with AsyncExitStack() as stack:
        its = await stack.enter_async_context(source(f"http://{address}"))
        await stack.enter_async_context(running(watch.draw(its, Asked(OFTEN, None, None), console)))
        why = f"http://{address} does not answer: Connection refused; waiting"
        await until(lambda: why in shown())
        async with gateway.serving(int(address.rpartition(":")[2])), calling(gateway):
            await until(lambda: "digits" in shown())
        await until(lambda: why in (told := shown()) and "digits" in told)  # with what was seen last
        young = Gateway()  # started anew, it counts from nothing
        young.calls(5, "other", "1")
        async with young.serving(int(address.rpartition(":")[2])):
            await until(lambda: "other" in (told := shown()) and why not in told)


async def test_elsewhere_who_is_away_is_an_error() -> None:
    async with source(f"http://{unused_address()}") as its:
        asked = Asked(OFTEN, 1, None)
        for told in (watch.lines(its, asked, Console()), watch.as_json(its, asked, print)):
            with pytest.raises(CommandError, match="does not answer: Connection refused; --gateway names"):
                await told


@pytest.mark.parametrize(
    ("path", "words"),
    [("/nothing", "has no /metrics: telemetry.metrics is off"), ("", "is not the page of a gateway's metrics")],
)
async def test_what_is_no_gateway_is_told(path: str, words: str) -> None:
    gateway = Gateway()
    gateway.registry = Registry(lambda: 0.0)
    async with gateway.serving() as url, source(url + path) as its:
        with pytest.raises(AwayError, match=re.escape(words)):
            await its.seen()


async def test_an_envoy_that_is_away_is_told_and_the_rest_is_shown() -> None:
    gateway, told, away = Gateway(), list[str](), unused_address()
    gateway.calls(1, "digits", "1")
    async with gateway.serving() as url, source(url, away) as its:
        await watch.as_json(its, Asked(OFTEN, 1, None), told.append)
    found = json.loads(told[0])
    assert found["silent"] == [f"the Envoy at {away} does not answer: ClientConnectorError"]
    assert [row["version"] for row in found["rows"]] == ["1"]


def seen(at: float, ok: int, failed: int, overflow: int = 0, ejected: int = 0) -> Look:
    models = (Model("digits", (Weighted("1", "outbound|v1", 100.0),)),)
    counts = Counts({0: ok, 14: failed}, {(0.0, 10.0): ok}, overflow, ("rq_open",) if overflow else ())
    return Look(at, models, {"outbound|v1": counts}, {"outbound|v1": Copies(3, ejected)})


def test_what_envoys_have_seen_is_put_together() -> None:
    before = {"a": seen(0.0, 0, 0), "b": seen(0.0, 0, 0), "gone": seen(0.0, 0, 0)}
    after = {"a": seen(2.0, 20, 4), "b": seen(2.0, 10, 0, 6, 1), "new": seen(2.0, 1000, 0)}
    (found,) = behind(before, after).values()
    assert (found.rate, found.failed) == (17, {"UNAVAILABLE": 2})
    assert (found.p50, found.copies, found.ejected, found.over, found.open) == (0.005, 3, 1, 3, ("rq_open",))
