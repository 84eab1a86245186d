"""Documents from elsewhere. Law: whoever sends one decides neither how much we hold nor where we go on to."""

from __future__ import annotations

from typing import Final

import aiohttp

_MAX_DOCUMENT: Final = 1024 * 1024  # bytes


class FetchError(Exception):
    """A document could not be had; the text is for our logs."""


async def get(session: aiohttp.ClientSession, url: str) -> bytes:
    """The body at the URL, at most 1 MiB; redirects are not followed. Raises FetchError, and what aiohttp raises."""
    async with session.get(url, allow_redirects=False) as response:
        if response.status != 200:
            raise FetchError(f"{shown(url)} answers {response.status}")
        body = bytearray()
        async for chunk in response.content.iter_chunked(65536):
            body += chunk
            if len(body) > _MAX_DOCUMENT:
                raise FetchError(f"{shown(url)} sends more than {_MAX_DOCUMENT} bytes")
        return bytes(body)


def shown(url: str) -> str:
    """The URL without what follows `?`, where some put keys."""
    return url.partition("?")[0]
