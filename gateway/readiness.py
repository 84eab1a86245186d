"""Whether calls may come. Law: health, ServerReady and /readyz give one answer, and it is found here."""

from __future__ import annotations

import asyncio
from collections.abc import Callable


class Readiness:
    """Ready while callers can be verified (`verifiable`) and the process is not on its way out."""

    def __init__(self, verifiable: Callable[[], bool]) -> None:
        self._verifiable = verifiable
        self._draining = asyncio.Event()
        self._closing = asyncio.Event()

    @property
    def ready(self) -> bool:
        """Whether new calls are welcome."""
        return self._verifiable() and not self._draining.is_set()

    @property
    def closing(self) -> bool:
        """Whether those who watch must go, too."""
        return self._closing.is_set()

    def drain(self) -> None:
        """Ask callers to go elsewhere; calls are still taken."""
        self._draining.set()

    def close(self) -> None:
        """Send those who watch away, so that they do not hold up the end."""
        self._closing.set()

    async def changes(self, within: float) -> None:
        """Return when the process turns to its end, or after `within` seconds."""
        event = self._closing if self._draining.is_set() else self._draining
        try:
            await asyncio.wait_for(event.wait(), within)
        except TimeoutError:
            return
