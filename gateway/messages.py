"""What is decided of each message of a stream. Law: each is decided by what is in force when it comes, and told once.

The token must be good for every one of them.
"""

from __future__ import annotations

from collections.abc import Collection
from contextlib import ExitStack
from typing import TYPE_CHECKING

from gateway.authorize import Permit
from gateway.call import read_call
from gateway.choose import Route
from gateway.exchange import Exchange
from gateway.phases import Phase
from gateway.upstream import Upstream
from protos.errors import HeadraceError

if TYPE_CHECKING:
    from gateway.steps import Steps


class EachMessage:
    """Decides for one stream (`gateway.stream.Decider`); `running` is ended with it."""

    def __init__(self, steps: Steps, exchange: Exchange, running: ExitStack) -> None:
        self._steps = steps
        self._exchange = exchange
        self._running = running
        self._admitted: set[str] = set()  # models
        self._begun: set[str] = set()

    async def decide(self, message: bytes) -> tuple[Permit, Route, Upstream]:
        """Where it goes. Raises HeadraceError, of which all but a bad token is told."""
        exchange = self._exchange
        exchange.enters(Phase.VERIFY)
        caller = await self._steps.verifier.verify(exchange.metadata)
        exchange.enters(Phase.READ)
        exchange.asks_nothing()
        now = self._steps.now()
        try:
            call = read_call(exchange.rpc, message)
            exchange.asks(call)
            now.account()
            permit, route = now.decide(exchange, caller, call)
            if permit.model not in self._admitted:
                exchange.enters(Phase.ADMIT)
                self._running.enter_context(now.admission.streaming(permit))
                self._admitted.add(permit.model)
        except HeadraceError as error:
            self.refused(error)
            raise
        exchange.enters(Phase.UPSTREAM)
        return permit, route, now.upstream

    async def still(self, models: Collection[str]) -> float:
        """Seconds for which the token is good by which it may still infer with these models. Raises HeadraceError."""
        caller = await self._steps.verifier.verify(self._exchange.metadata)
        self._steps.now().authorizer.keep(caller, models)
        return self._steps.verifier.left(caller)

    def allowed(self, model: str) -> None:
        """One goes on; of a model's first it is told that it may."""
        self._steps.messages.received(model)
        if model not in self._begun:
            self._begun.add(model)
            self._exchange.decided()

    def refused(self, error: HeadraceError) -> None:
        """One does not go on, of which the stream's own end will say nothing."""
        self._steps.now().told(error, self._exchange)
        self._exchange.decided(error)
        self._steps.messages.received("")

    def sent(self, model: str) -> None:
        """An answer went to the caller: of this model, or empty where it is a refusal."""
        self._steps.messages.sent(model)
