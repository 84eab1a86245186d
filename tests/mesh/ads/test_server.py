"""The server on a real socket: who is told what, and that verdicts come back."""

from __future__ import annotations

import asyncio
import socket
from typing import Any

import pytest

from mesh.ads.server import Ads, serving
from mesh.ads.stream import CLUSTER, LISTENER, ROUTES, Verdict
from tests.mesh.ads.asking import asking

ONE = {"routes": [{"name": "a"}], "clusters": [{"name": "a", "type": "EDS"}]}


async def asked(ads: Ads, node: str, kind: str, *names: str) -> list[dict[str, Any]]:
    def ask() -> list[dict[str, Any]]:
        with asking(ads.address, {"id": node}) as asks:
            return asks(kind, names)

    return await asyncio.to_thread(ask)


async def test_each_node_is_told_its_own() -> None:
    async with serving("127.0.0.1:0", lambda _: None) as ads:
        ads.publish("one", ONE)
        ads.publish("two", {"routes": [{"name": "a", "virtual_hosts": [{"name": "b", "domains": ["c"]}]}]})
        assert await asked(ads, "one", ROUTES, "a") == [{"name": "a"}]
        assert (await asked(ads, "two", ROUTES, "a"))[0]["virtual_hosts"]
        assert await asked(ads, "two", CLUSTER, "a") == []


async def test_a_node_waits_for_what_is_not_published_yet() -> None:
    async with serving("127.0.0.1:0", lambda _: None) as ads:
        answer = asyncio.create_task(asked(ads, "one", CLUSTER, "a"))
        while not ads._inboxes:
            await asyncio.sleep(0.01)
        assert not answer.done()
        ads.publish("one", ONE)
        assert await answer == ONE["clusters"]


async def test_who_publishes_hears_verdicts() -> None:
    heard: asyncio.Queue[Verdict] = asyncio.Queue()
    async with serving("127.0.0.1:0", heard.put_nowait) as ads:
        ads.publish("one", ONE)
        await asked(ads, "one", CLUSTER, "a")
        verdict = await asyncio.wait_for(heard.get(), 10)
    assert verdict == Verdict("one", CLUSTER, "1", None)


async def test_what_xds_has_not_is_refused_and_changes_nothing() -> None:
    async with serving("127.0.0.1:0", lambda _: None) as ads:
        ads.publish("one", ONE)
        with pytest.raises(ValueError, match=LISTENER):
            ads.publish("one", {"routes": [], "listeners": [{"name": "a", "no_such_field": 1}]})
        assert await asked(ads, "one", ROUTES, "a") == ONE["routes"]


async def test_streams_end_with_their_clients() -> None:
    async with serving("127.0.0.1:0", lambda _: None) as ads:
        ads.publish("one", ONE)
        await asked(ads, "one", CLUSTER, "a")
        async with asyncio.timeout(10):
            while ads._inboxes:
                await asyncio.sleep(0.01)


async def test_a_port_that_is_taken() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(RuntimeError):
            await serving(f"127.0.0.1:{taken.getsockname()[1]}", lambda _: None).__aenter__()
