"""Issuers' keys over real HTTP: who may be asked, how often, and what stays when it fails."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import aiohttp
import pytest
import pytest_asyncio
from aiohttp import web

from gateway import jwks
from gateway.jwks import KeySource, from_discovery, from_file, from_url, is_safe_url
from protos.fetch import FetchError, get
from tests.gateway.tokens import Issuer

_MIB = 1024 * 1024


class Home:
    """An issuer's web server that does as it is told, and counts."""

    def __init__(self) -> None:
        self.document = b"{}"
        self.status = 200
        self.metadata: bytes = b"{}"
        self.requests = 0
        self.open = asyncio.Event()  # while clear, answers are held back
        self.open.set()
        self.base = ""

    async def keys(self, _request: web.Request) -> web.Response:
        self.requests += 1
        await self.open.wait()
        return web.Response(body=self.document, status=self.status)

    async def discovery(self, _request: web.Request) -> web.Response:
        self.requests += 1
        return web.Response(body=self.metadata)

    async def elsewhere(self, request: web.Request) -> web.Response:
        self.requests += 1
        return web.Response(status=int(request.match_info["status"]), headers={"Location": "/jwks"})

    def describe(self, **changes: object) -> None:
        good = {"issuer": f"{self.base}/", "jwks_uri": f"{self.base}/jwks"}
        self.metadata = json.dumps({**good, **changes}).encode()


@pytest_asyncio.fixture
async def home() -> AsyncIterator[Home]:
    made = Home()
    application = web.Application()
    application.add_routes(
        [
            web.get("/jwks", made.keys),
            web.get("/.well-known/openid-configuration", made.discovery),
            web.get("/elsewhere/{status}", made.elsewhere),
        ]
    )
    runner = web.AppRunner(application, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    made.base = f"http://127.0.0.1:{runner.addresses[0][1]}"
    yield made
    made.open.set()
    await runner.cleanup()


@pytest_asyncio.fixture
async def session() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession() as made:
        yield made


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


async def _eventually(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(5):
        while not condition():
            await asyncio.sleep(0.005)


def _source(fetch: Callable[[], Awaitable[bytes]], clock: Clock | None = None, interval: float = 300.0) -> KeySource:
    return KeySource("https://id.example/", fetch, interval, clock or Clock())


def _kids(source: KeySource) -> list[str | None]:
    return [key.kid for key in source.current.keys]


# ---- where keys come from ----


async def test_from_a_url(home: Home, session: aiohttp.ClientSession) -> None:
    home.document = Issuer(kid="u1").jwks()
    source = _source(from_url(session, f"{home.base}/jwks"))
    assert _kids(source) == []
    await source.refresh()
    assert _kids(source) == ["u1"]


async def test_from_a_file(tmp_path: Path) -> None:
    path = tmp_path / "jwks.json"
    clock = Clock()
    source = _source(from_file(path), clock)
    await source.refresh()
    assert _kids(source) == []
    clock.now += 60
    path.write_bytes(Issuer(kid="f1").jwks())
    await source.refresh()
    assert _kids(source) == ["f1"]


@pytest.mark.parametrize("slash", ["/", ""])
async def test_from_discovery(home: Home, session: aiohttp.ClientSession, slash: str) -> None:
    home.document = Issuer(kid="d1").jwks()
    home.describe(issuer=home.base + slash)
    source = _source(from_discovery(session, home.base + slash))
    await source.refresh()
    assert _kids(source) == ["d1"]
    assert home.requests == 2


@pytest.mark.parametrize(
    "changes",
    [
        {"issuer": "https://evil.example/"},
        {"issuer": None},
        {"issuer": ["https://id.example/"]},
        {"jwks_uri": None},
        {"jwks_uri": 5},
        {"jwks_uri": "http://evil.example/jwks"},
        {"jwks_uri": "http://127.0.0.1@evil.example/jwks"},
        {"jwks_uri": "file:///etc/passwd"},
        {"jwks_uri": "/jwks"},
    ],
    ids=str,
)
async def test_discovery_that_is_refused(
    home: Home, session: aiohttp.ClientSession, changes: dict[str, object]
) -> None:
    home.document = Issuer().jwks()
    fetch = from_discovery(session, f"{home.base}/")
    home.describe()
    assert await fetch() == home.document
    home.describe(**changes)
    with pytest.raises(FetchError, match="discovery"):
        await fetch()
    assert home.requests == 3


async def test_discovery_must_name_the_issuer_to_the_letter(home: Home, session: aiohttp.ClientSession) -> None:
    home.describe()
    with pytest.raises(FetchError, match="speaks for issuer"):
        await from_discovery(session, home.base)()


@pytest.mark.parametrize("metadata", [b"", b"[]", b"<html>", b'{"issuer":"a","issuer":"b"}'])
async def test_discovery_that_is_no_metadata(home: Home, session: aiohttp.ClientSession, metadata: bytes) -> None:
    home.metadata = metadata
    with pytest.raises(FetchError, match="discovery"):
        await from_discovery(session, f"{home.base}/")()


# ---- get ----


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_redirects_are_not_followed(home: Home, session: aiohttp.ClientSession, status: int) -> None:
    with pytest.raises(FetchError, match=str(status)):
        await get(session, f"{home.base}/elsewhere/{status}")
    assert home.requests == 1


@pytest.mark.parametrize("status", [201, 204, 400, 404, 500, 503])
async def test_only_200_is_an_answer(home: Home, session: aiohttp.ClientSession, status: int) -> None:
    assert await get(session, f"{home.base}/jwks") == b"{}"
    home.status = status
    with pytest.raises(FetchError, match=str(status)):
        await get(session, f"{home.base}/jwks")


async def test_documents_may_have_a_mebibyte(home: Home, session: aiohttp.ClientSession) -> None:
    home.document = b"x" * _MIB
    assert len(await get(session, f"{home.base}/jwks")) == _MIB
    home.document = b"x" * (_MIB + 1)
    with pytest.raises(FetchError, match="more than"):
        await get(session, f"{home.base}/jwks")


# ---- one flight, last good keys, spacing ----


async def test_a_hundred_waiters_cause_one_request(home: Home, session: aiohttp.ClientSession) -> None:
    home.document = Issuer(kid="u1").jwks()
    home.open.clear()
    source = _source(from_url(session, f"{home.base}/jwks"))
    waiters = [asyncio.create_task(source.refresh()) for _ in range(100)]
    await _eventually(lambda: home.requests == 1)
    assert not any(waiter.done() for waiter in waiters)
    home.open.set()
    await asyncio.gather(*waiters)
    assert home.requests == 1
    assert _kids(source) == ["u1"]


async def test_a_waiter_that_leaves_does_not_take_the_fetch_with_it(home: Home, session: aiohttp.ClientSession) -> None:
    home.document = Issuer(kid="u1").jwks()
    home.open.clear()
    source = _source(from_url(session, f"{home.base}/jwks"))
    first, second = (asyncio.create_task(source.refresh()) for _ in range(2))
    await _eventually(lambda: home.requests == 1)
    first.cancel()
    with pytest.raises(asyncio.CancelledError):
        await first
    home.open.set()
    await second
    assert _kids(source) == ["u1"]
    assert home.requests == 1


@pytest.mark.parametrize("failure", ["status", "junk", "no usable key", "too large", "down"])
async def test_the_last_good_keys_stay(home: Home, session: aiohttp.ClientSession, failure: str) -> None:
    home.document = Issuer(kid="u1").jwks()
    clock = Clock()
    url = f"{home.base}/jwks"
    source = _source(lambda: get(session, url), clock)
    await source.refresh()
    before = source.current
    if failure == "status":
        home.status = 503
    elif failure == "down":
        url = "http://127.0.0.1:1/jwks"
    else:
        home.document = {"junk": b"<html>", "no usable key": b'{"keys":[]}', "too large": b" " * (_MIB + 1)}[failure]
    clock.now += 60
    await source.refresh()
    assert source.current is before
    home.status, home.document, url = 200, Issuer(kid="u2").jwks(), f"{home.base}/jwks"
    clock.now += 60
    await source.refresh()
    assert _kids(source) == ["u2"]


async def test_a_fetch_without_end_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jwks, "_TIMEOUT", 0.05)
    ended = asyncio.Event()

    async def fetch() -> bytes:
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()
        return b""

    source = _source(fetch)
    async with asyncio.timeout(5):
        await source.refresh()
    assert ended.is_set()
    assert _kids(source) == []


async def test_the_same_keys_are_the_same_set(home: Home, session: aiohttp.ClientSession) -> None:
    """`verify` tells by identity whether a refresh brought anything new."""
    home.document = Issuer(kid="u1").jwks()
    clock = Clock()
    source = _source(from_url(session, f"{home.base}/jwks"), clock)
    await source.refresh()
    before = source.current
    clock.now += 60
    await source.refresh()
    assert home.requests == 2
    assert source.current is before


async def test_fetches_that_callers_cause_are_spaced(home: Home, session: aiohttp.ClientSession) -> None:
    home.document = Issuer(kid="u1").jwks()
    clock = Clock()
    source = _source(from_url(session, f"{home.base}/jwks"), clock)
    for _ in range(10):
        await source.refresh()
    assert home.requests == 1
    clock.now += 4.9
    await source.refresh()
    assert home.requests == 1
    clock.now += 0.2
    for _ in range(10):
        await source.refresh()
    assert home.requests == 2


async def test_failures_are_spaced_too_while_there_are_keys(home: Home, session: aiohttp.ClientSession) -> None:
    home.document = Issuer(kid="u1").jwks()
    clock = Clock()
    source = _source(from_url(session, f"{home.base}/jwks"), clock)
    await source.refresh()
    home.status = 503
    clock.now += 60
    for _ in range(10):
        await source.refresh()
    assert home.requests == 2


async def test_callers_cannot_hammer_an_issuer_that_is_down(home: Home, session: aiohttp.ClientSession) -> None:
    home.status = 503
    source = _source(from_url(session, f"{home.base}/jwks"))
    for _ in range(50):
        await source.refresh()
    assert home.requests <= 2


# ---- by itself ----


async def test_keys_are_kept_fresh_and_nothing_is_left_behind(home: Home, session: aiohttp.ClientSession) -> None:
    before = asyncio.all_tasks()
    home.document = Issuer(kid="u1").jwks()
    source = _source(from_url(session, f"{home.base}/jwks"), interval=0.02)
    async with source.kept_fresh():
        await _eventually(lambda: _kids(source) == ["u1"])
        home.document = Issuer(kid="u2").jwks()
        await _eventually(lambda: _kids(source) == ["u2"])
        home.status = 500
        asked = home.requests
        await _eventually(lambda: home.requests > asked + 1)
        assert _kids(source) == ["u2"]
    assert asyncio.all_tasks() - before <= _servers_own()
    asked = home.requests
    await asyncio.sleep(0.1)  # five intervals in which nothing may be asked
    assert home.requests == asked


async def test_leaving_during_a_fetch(home: Home, session: aiohttp.ClientSession) -> None:
    home.open.clear()
    source = _source(from_url(session, f"{home.base}/jwks"))
    async with asyncio.timeout(5):
        async with source.kept_fresh():
            await _eventually(lambda: home.requests == 1)
            waiter = asyncio.create_task(source.refresh())
            await asyncio.sleep(0)
        with pytest.raises(asyncio.CancelledError):
            await waiter
    assert [task for task in asyncio.all_tasks() if "keys of" in task.get_name()] == []
    assert source._under_way is None


async def test_after_a_failure_keys_are_asked_for_sooner(home: Home, session: aiohttp.ClientSession) -> None:
    home.status = 503
    source = _source(from_url(session, f"{home.base}/jwks"), interval=3600)
    async with source.kept_fresh():
        await _eventually(lambda: home.requests == 1)
        home.status, home.document = 200, Issuer(kid="u1").jwks()
        await _eventually(lambda: _kids(source) == ["u1"])
    assert home.requests == 2


async def test_entering_does_not_wait_for_an_issuer_that_is_slow(home: Home, session: aiohttp.ClientSession) -> None:
    home.open.clear()
    source = _source(from_url(session, f"{home.base}/jwks"))
    async with contextlib.AsyncExitStack() as stack:
        async with asyncio.timeout(1):
            await stack.enter_async_context(source.kept_fresh())
        assert _kids(source) == []


def _servers_own() -> set[asyncio.Task[object]]:
    """Tasks of aiohttp's server for connections that the session keeps open."""
    return {task for task in asyncio.all_tasks() if "RequestHandler" in repr(task.get_coro())}


# ---- which URLs ----


@pytest.mark.parametrize(
    "url",
    [
        "https://id.example/jwks.json",
        "https://id.example:8443/",
        "http://localhost/jwks",
        "http://localhost:8080/jwks",
        "http://127.0.0.1",
        "http://127.0.0.1:80/jwks",
        "http://127.8.9.1:80/jwks",
        "http://[::1]/jwks",
        "http://[::1]:80/jwks",
        "http://127.0.0.1/a@b:c",
    ],
)
def test_safe_urls(url: str) -> None:
    assert is_safe_url(url)


@pytest.mark.parametrize(
    "url",
    [
        "",
        "https://",
        "https:///x",
        "https://user:pass@id.example/jwks",
        "https://id.example?@evil/",
        "https://id.example\\@evil/",
        "id.example",
        "http://",
        "http:///jwks",
        "http://id.example/jwks",
        "http://10.0.0.1/",
        "http://0.0.0.0/",
        "http://[::]/",
        "http://[::2]:80/",
        "http://127.0.0.1@evil",
        "http://127.0.0.1:80@evil/",
        "http://localhost@evil.example/",
        "http://user@127.0.0.1/",
        "http://localhost.evil/",
        "http://localhost.:80/",
        "http://127.0.0.1.evil/",
        "http://evil.localhost/",
        "http://localhost\\.evil/",
        "http://localhost\\@evil/",
        "http://localhost?@evil/",
        "http://localhost#@evil/",
        "http://localhost?.evil/",
        "http://127.0.0.1%2f@evil/",
        "http://127.0.0.1\t.evil/",
        "http://127.0.0.1\n.evil/",
        "http://2130706433/",
        "http://0x7f000001/",
        "http://127.1/",
        "http://localhost:80:evil/",
        "http://::1/",
        "ftp://127.0.0.1/",
        "file:///etc/passwd",
        "HTTP://evil/",
        "//localhost/jwks",
        "javascript://localhost/",
    ],
)
def test_unsafe_urls(url: str) -> None:
    assert not is_safe_url(url)


@pytest.mark.parametrize(
    "url", ["http://127.0.0.1]:80/", "http://[127.0.0.1]:80/", "http://localhost:evil/", "http://::1:80/"]
)
async def test_what_is_safe_but_no_url_fails_quietly(session: aiohttp.ClientSession, url: str) -> None:
    source = _source(from_url(session, url))
    async with asyncio.timeout(5):
        await source.refresh()
    assert _kids(source) == []


async def test_an_issuer_that_is_down_for_weeks_is_still_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = 0

    async def fetch() -> bytes:
        nonlocal asked
        asked += 1
        if asked <= 2000:
            raise ZeroDivisionError if asked % 2 else OSError
        return Issuer(kid="back").jwks()

    monkeypatch.setattr("gateway.jwks._FIRST_RETRY", 0.0)
    source = _source(fetch, interval=60.0)
    async with source.kept_fresh():
        await _eventually(lambda: _kids(source) == ["back"])
    assert asked == 2001
