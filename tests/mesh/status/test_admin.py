"""What answers at an admin address need not be an Envoy."""

from __future__ import annotations

from collections.abc import AsyncIterator

import aiohttp
import pytest

from mesh.envoy.admin import Admin, UnreachableError
from mesh.status.admin import looked_at
from tests.mesh.local.issuer import Server, serving

NOTHING = b"{}"
DUMP, CLUSTERS = "/config_dump?resource=dynamic_route_configs", "/clusters?format=json"
BIG = b'{"stats": [{"name": "cluster.outbound|8001||a.b.svc.cluster.local;.grpc.0", "value": 1e999}]}'


@pytest.fixture
async def admin() -> AsyncIterator[tuple[Admin, Server]]:
    async with aiohttp.ClientSession() as session:
        with serving() as server:
            yield Admin(session, server.address.removeprefix("http://")), server


async def looked(admin: Admin, server: Server, pages: dict[str, bytes]) -> None:
    """Look, where every page is empty but these; the query of the statistics is long, and left out here."""
    first = {DUMP: NOTHING, CLUSTERS: NOTHING} | pages
    server.documents.update(first)
    for _ in range(2):  # the first look says by which name the statistics are asked for
        for path in server.asked:
            server.documents.setdefault(path, pages.get("/stats", NOTHING))
        try:
            await looked_at(admin)
        except UnreachableError as error:
            if "answers 404" not in str(error):
                raise


async def test_an_envoy_that_knows_nothing_is_one(admin: tuple[Admin, Server]) -> None:
    await looked(*admin, {})


@pytest.mark.parametrize(
    "pages",
    [{DUMP: b"[" * 100_000}, {DUMP: b"[]"}, {CLUSTERS: b"<html>"}, {"/stats": BIG}],
    ids=["deep", "a list", "a page", "a number that is none"],
)
async def test_what_no_envoy_answers_is_told(admin: tuple[Admin, Server], pages: dict[str, bytes]) -> None:
    with pytest.raises(UnreachableError, match="is not what an Envoy answers"):
        await looked(*admin, pages)
