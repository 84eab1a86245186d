"""What is still to be sent when a process ends. Law: all of it is sent at the same time, so the end waits once."""

from __future__ import annotations

import asyncio
from collections.abc import Callable


class LastWords:
    """Of senders that block until theirs are said, or they give up."""

    def __init__(self) -> None:
        self._senders: list[Callable[[], None]] = []

    def add(self, close: Callable[[], None]) -> None:
        """Have it closed then, in a thread."""
        self._senders.append(close)

    async def say(self) -> None:
        """Close all; what one raises is raised once all are closed."""
        closing = [asyncio.to_thread(close) for close in self._senders]
        for failed in await asyncio.gather(*closing, return_exceptions=True):
            if isinstance(failed, BaseException):
                raise failed
