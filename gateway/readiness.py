"""Whether calls may come. Law: health, ServerReady and /readyz give one answer, and it is found here."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import grpc

from protos.errors import HeadraceError, Reason


class Readiness:
    """Ready while callers can be verified (`verifiable`) and the process is not on its way out.

    And not while it is `unaccountable`: calls must be audited, and cannot be.
    """

    def __init__(self, verifiable: Callable[[], bool], unaccountable: Callable[[], bool] = lambda: False) -> None:
        self._verifiable = verifiable
        self._unaccountable = unaccountable
        self._draining = asyncio.Event()
        self._closing = asyncio.Event()
        self._gone = asyncio.Event()

    @property
    def ready(self) -> bool:
        """Whether new calls are welcome."""
        return not self.why_not

    @property
    def why_not(self) -> str:
        """Why they are not; empty where they are."""
        if self._draining.is_set():
            return "it stops"
        if self._unaccountable():
            return "the audit cannot be written"
        return "" if self._verifiable() else "it has no issuer's keys, or the Envoy in front is not there"

    @property
    def closing(self) -> bool:
        """Whether new calls are refused, and those who watch must go."""
        return self._closing.is_set()

    async def admit(self) -> None:
        """Let a new call in. Raises HeadraceError DRAINING, once callers can be sent elsewhere."""
        if self._closing.is_set():
            await self._gone.wait()
            raise HeadraceError(
                grpc.StatusCode.UNAVAILABLE, Reason.DRAINING, "this gateway is stopping; call another", retry_after=0.1
            )

    def account(self) -> None:
        """Raises HeadraceError AUDIT_UNAVAILABLE: what is called now nobody could be told of."""
        if self._unaccountable():
            raise HeadraceError(
                grpc.StatusCode.UNAVAILABLE,
                Reason.AUDIT_UNAVAILABLE,
                "calls are audited here, and the audit cannot be written",
                retry_after=1.0,
            )

    def drain(self) -> None:
        """Ask callers to go elsewhere; calls are still taken."""
        self._draining.set()

    def close(self) -> None:
        """Hold new calls back, and send those who watch away, so that they do not hold up the end."""
        self._closing.set()

    def leave(self) -> None:
        """Refuse the calls that were held back."""
        self._gone.set()

    def turn(self) -> asyncio.Event:
        """What is set when the process next turns to its end."""
        return self._closing if self._draining.is_set() else self._draining

    async def changes(self, within: float, turn: asyncio.Event | None = None) -> None:
        """Return when the process turns to its end, or after `within` seconds.

        With the `turn` of an earlier moment, one that has come since is not missed.
        """
        try:
            await asyncio.wait_for((turn or self.turn()).wait(), within)
        except TimeoutError:
            return
