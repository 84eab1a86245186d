"""An Envoy's admin pages, read. Law: asking changes nothing.

Source: https://www.envoyproxy.io/docs/envoy/latest/operations/admin.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from http import HTTPStatus
from typing import Final

import aiohttp

_PATIENCE: Final = aiohttp.ClientTimeout(total=5.0)
_TEXT: Final = re.compile(r'^(?P<name>\S+): (?:"(?P<text>[^"]*)"|(?P<number>\d+))$', re.MULTILINE)
_LARGEST: Final = 64 * 1024 * 1024  # bytes


class UnreachableError(Exception):
    """Nobody answers as an Envoy's admin page does."""


class Admin:
    """The admin pages at `address`, HOST:PORT."""

    def __init__(self, session: aiohttp.ClientSession, address: str) -> None:
        self._session = session
        self.address = address

    async def get(self, path: str, **query: str) -> str:
        """A page. Raises UnreachableError."""
        try:
            async with self._session.get(f"http://{self.address}/{path}", params=query, timeout=_PATIENCE) as answer:
                text = await _text(answer)
        except (aiohttp.ClientError, TimeoutError) as error:
            raise UnreachableError(f"{self.address} does not answer: {type(error).__name__}") from None
        if answer.status != HTTPStatus.OK:
            raise UnreachableError(f"{self.address}/{path} answers {answer.status}")
        return text

    async def statistics(self, names: Iterable[str]) -> Mapping[str, str]:
        """Counters, gauges and texts of these names, as far as they are there."""
        return await self.statistics_like(f"^({'|'.join(map(re.escape, names))})$")

    async def statistics_like(self, pattern: str) -> Mapping[str, str]:
        """Counters, gauges and texts whose names hold the pattern."""
        page = await self.get("stats", filter=pattern)
        return {found["name"]: found["text"] or found["number"] or "" for found in _TEXT.finditer(page)}


async def _text(answer: aiohttp.ClientResponse) -> str:
    body = bytearray()
    async for chunk in answer.content.iter_chunked(65536):
        body += chunk
        if len(body) > _LARGEST:
            raise UnreachableError(f"{answer.url.authority} sends more than {_LARGEST} bytes")
    return body.decode(errors="replace")
