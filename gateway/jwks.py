"""Issuers' keys, fetched and kept. Law: the last good keys stay until better ones are here; no call waits twice.

Keys come from a file, a URL, or OpenID Connect Discovery. A fetch serves all who wait for it; fetches that callers
cause (a token signed with a key we have not seen) are spaced, so that nobody makes us hammer an issuer.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Final

import aiohttp

from gateway.jws import BadToken, json_object
from gateway.keys import KeySet, parse_jwks
from mesh.catalog import is_loopback
from protos.fetch import FetchError, get

log = logging.getLogger("headrace.gateway.jwks")

Fetch = Callable[[], Awaitable[bytes]]
_TIMEOUT: Final = 5.0  # seconds
_SPACING: Final = 5.0  # seconds between fetches that callers cause
_FIRST_RETRY: Final = 0.5  # seconds, doubled up to the usual interval


class KeySource:
    """The keys of one issuer.

    `fetch` brings the JWK Set; `interval` (seconds) is how often it is asked for them by itself; `clock` is monotonic.
    """

    def __init__(self, issuer: str, fetch: Fetch, interval: float, clock: Callable[[], float]) -> None:
        self._issuer = issuer
        self._fetch = fetch
        self._interval = interval
        self._clock = clock
        self._current = KeySet()
        self._fetched_at = clock()
        self._under_way: asyncio.Task[bool] | None = None
        self._asked_at = float("-inf")  # by callers
        self._failing = False

    @property
    def current(self) -> KeySet:
        """The keys as last known; empty before they were first had."""
        return self._current

    @property
    def age(self) -> float:
        """Seconds since they were last fetched well, or since the start."""
        return self._clock() - self._fetched_at

    async def refresh(self) -> None:
        """Ask for newer keys, unless that was done within the spacing; waits for a fetch that is under way."""
        if self._under_way is None:
            if self._clock() - self._asked_at < _SPACING:
                return
            self._asked_at = self._clock()
        await self._fetch_once()

    @contextlib.asynccontextmanager
    async def kept_fresh(self) -> AsyncIterator[None]:
        """While inside, the keys are fetched at once and then every `interval`, sooner after a failure."""
        keeper = asyncio.create_task(self._keep_fresh(), name=f"keys of {self._issuer}")
        try:
            yield
        finally:
            for task in (keeper, self._under_way):
                if task is not None:
                    task.cancel()
                    with contextlib.suppress(asyncio.CancelledError):
                        await task

    async def _keep_fresh(self) -> None:
        retry = _FIRST_RETRY
        while True:
            if await self._fetch_once():
                retry = _FIRST_RETRY
                await asyncio.sleep(self._interval)
            else:
                await asyncio.sleep(retry)
                retry = min(retry * 2, self._interval)

    async def _fetch_once(self) -> bool:
        """Whether the fetch that serves all who wait brought keys."""
        if self._under_way is None:
            self._under_way = asyncio.create_task(self._replace())
        # A waiter that leaves must not take the others' fetch with it.
        return await asyncio.shield(self._under_way)

    async def _replace(self) -> bool:
        try:
            fetched = parse_jwks(await asyncio.wait_for(self._fetch(), _TIMEOUT))
        except Exception as error:  # noqa: BLE001 - whatever an issuer does to us, its keys are asked for again
            what = "the last good ones stay" if self._current.keys else "tokens of this issuer cannot be verified"
            log.warning("keys of %s: %s; %s", self._issuer, str(error) or type(error).__name__, what)
            self._failing = True
            return False
        else:
            if fetched != self._current or self._failing:
                log.info("keys of %s: %s", self._issuer, ", ".join(key.kid or "without kid" for key in fetched.keys))
            self._failing = False
            self._fetched_at = self._clock()
            if fetched != self._current:
                self._current = fetched
            return True
        finally:
            self._under_way = None


def from_file(path: Path) -> Fetch:
    """Keys from a JWK Set in a file, read off the loop."""
    return lambda: asyncio.to_thread(path.read_bytes)


def from_url(session: aiohttp.ClientSession, url: str) -> Fetch:
    """Keys from a JWK Set at a URL."""
    return lambda: get(session, url)


def from_discovery(session: aiohttp.ClientSession, issuer: str) -> Fetch:
    """Keys from where the issuer's own metadata says they are (OpenID Connect Discovery 1.0, section 4)."""

    async def fetch() -> bytes:
        try:
            metadata = json_object(await get(session, issuer.rstrip("/") + "/.well-known/openid-configuration"))
        except BadToken as error:
            raise FetchError(f"discovery: {error}") from None
        if metadata.get("issuer") != issuer:
            raise FetchError(f"discovery speaks for issuer {metadata.get('issuer')!r}")
        url = metadata.get("jwks_uri")
        if not isinstance(url, str) or not is_safe_url(url):
            raise FetchError("discovery names no jwks_uri by https")
        return await get(session, url)

    return fetch


def is_safe_url(url: str) -> bool:
    """Whether what is fetched from there can be trusted: by https, or by http from this machine; without a password."""
    scheme, _, rest = url.partition("://")
    authority = rest.partition("/")[0]
    if not authority or set(authority) & set("@?#\\"):  # which readers of URLs take for different hosts, or a password
        return False
    if scheme == "https":
        return True
    host = authority.rpartition(":")[0] if ":" in authority.rpartition("]")[2] else authority
    return scheme == "http" and is_loopback(host)
