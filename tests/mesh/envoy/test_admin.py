from __future__ import annotations

from collections.abc import AsyncIterator

import aiohttp
import pytest

from mesh.envoy.admin import Admin, UnreachableError
from tests.mesh.local.issuer import Server, serving
from tests.mesh.local.scene import listening

STATS = b"""cluster.one;.version_text: "abc"
cluster.one;.empty_text: ""
cluster.one;.upstream_rq_total: 12
cluster.one;.upstream_rq_time: P0(nan,1) P25(nan,1.5)
"""


@pytest.fixture
async def session() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession() as made:
        yield made


def admin(session: aiohttp.ClientSession, server: Server) -> Admin:
    return Admin(session, server.address.removeprefix("http://"))


async def test_counters_gauges_and_texts_are_read_and_histograms_are_not(session: aiohttp.ClientSession) -> None:
    with serving() as server:
        server.documents["/stats?filter=%5E(a%7Cb%5C.c)$"] = STATS
        found = await admin(session, server).statistics(["a", "b.c"])
    assert found == {
        "cluster.one;.version_text": "abc",
        "cluster.one;.empty_text": "",
        "cluster.one;.upstream_rq_total": "12",
    }


async def test_no_answer_is_told(session: aiohttp.ClientSession) -> None:
    with serving() as server:
        nobody = admin(session, server)
        server.documents["/ready"], server.status = b"LIVE\n", 503
        with pytest.raises(UnreachableError, match="/ready answers 503"):
            await nobody.get("ready")
        server.status = 200
        assert await nobody.get("ready") == "LIVE\n"
    with pytest.raises(UnreachableError, match=f"{nobody.address} does not answer: ClientConnectorError"):
        await nobody.get("ready")


async def test_one_who_never_answers_is_not_waited_for_for_ever(
    session: aiohttp.ClientSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mesh.envoy.admin._PATIENCE", aiohttp.ClientTimeout(total=0.05))
    with listening() as port, pytest.raises(UnreachableError, match="does not answer: TimeoutError"):
        await Admin(session, f"127.0.0.1:{port}").get("ready")
