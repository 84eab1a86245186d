"""The steps of a call. Law: one method per way of answering, each of which reads as the sentence in the design.

Messages are bytes here. The token is verified before the message is read,
so that a stranger cannot make us hold what it sends.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Final

from gateway import every_copy, gather
from gateway.admission import Admission
from gateway.answer import Answer
from gateway.authorize import Authorizer, Permit, shared_memory_refused
from gateway.call import Call, read_call
from gateway.caller import Caller
from gateway.choose import Route, choose, find
from gateway.counted import Messages
from gateway.exchange import Exchange
from gateway.forward import forward
from gateway.lane import Lane
from gateway.local import Local
from gateway.messages import EachMessage
from gateway.phases import Phase
from gateway.pinned import Pinned
from gateway.refusals import Refusals
from gateway.stream import relay
from gateway.upstream import Upstream
from gateway.verify import Verifier
from mesh.catalog import Catalog
from protos.contract import LEARN_KEY
from protos.errors import HeadraceError

_AT_ONCE: Final = 0.2  # seconds in which nothing changes that anyone was promised


@dataclass(frozen=True)
class Steps:
    """What the steps of a call need; `draw` gives luck in [0, 1). `lane` is there where an Envoy is in front.

    `now` gives the steps that hold at the moment: a stream may outlive those with which it began. `account` raises
    HeadraceError where calls must be audited, and cannot be.
    """

    verifier: Verifier
    authorizer: Authorizer
    admission: Admission
    catalog: Catalog
    upstream: Upstream
    local: Local
    lane: Lane | None
    refusals: Refusals
    draw: Callable[[], float]
    pinned: Pinned
    account: Callable[[], None]
    messages: Messages
    now: Callable[[], Steps]

    async def answer_locally(self, exchange: Exchange) -> bytes:
        """Server calls, which the gateway itself answers; without a token where the RPC needs none."""
        if not exchange.rpc.open:
            exchange.known(await self.verifier.verify(exchange.metadata))
        return await exchange.reply(
            Answer(self.local.answer(exchange.rpc, shares_memory=bool(self.upstream.local)), (), ())
        )

    async def pass_on(self, exchange: Exchange) -> bytes:
        """One message to one copy, and its answer back."""
        since = self.lane.generation.word() if self.lane and exchange.header(LEARN_KEY) else ""
        caller = await self._admit(exchange)
        call = read_call(exchange.rpc, await exchange.read())
        now, caller = await self._by_now(exchange, caller)
        exchange.asks(call)
        permit, route = now.decide(exchange, caller, call)
        exchange.enters(Phase.ADMIT)
        with now.admission.running(permit, route):
            exchange.enters(Phase.UPSTREAM)
            answer = await forward(permit, route, exchange, now.upstream)
        lesson = now.lane.lesson(since, call, permit, route, now.admission.quotas.lease) if now.lane else ()
        return await exchange.reply(answer, lesson)

    async def pass_on_stream(self, exchange: Exchange) -> None:
        """Message by message, each with its own decision; the token must be good for every one of them."""
        await self._admit(exchange)
        with ExitStack() as running:
            await relay(exchange, EachMessage(self, exchange, running))

    async def ask_all(self, exchange: Exchange) -> bytes:
        """One message to every copy that it concerns, and their answers as one."""
        caller = await self._admit(exchange)
        call = read_call(exchange.rpc, await exchange.read())
        now, caller = await self._by_now(exchange, caller)
        exchange.asks(call)
        exchange.enters(Phase.AUTHORIZE)
        passages = await gather.passages(caller, call, now.authorizer, now.catalog, now.upstream)
        if passages.stops:
            exchange.permitted(passages.stops[0].permit)
        exchange.enters(Phase.ADMIT)
        with ExitStack() as running:
            for permit in passages.permits:
                now.admission.quotas.take(permit)
                running.enter_context(now.admission.streaming(permit))
            exchange.enters(Phase.UPSTREAM)
            if exchange.rpc.way == "gather":
                return await exchange.reply(*await every_copy.merged(passages, exchange, call.body))
            return await exchange.reply(*await every_copy.everywhere(passages, exchange))

    async def _admit(self, exchange: Exchange) -> Caller:
        """Who calls, if there is anything at all that it may do here; before its message is read."""
        caller = await self.verifier.verify(exchange.metadata)
        exchange.known(caller)
        exchange.enters(Phase.AUTHORIZE)
        self.authorizer.admit(caller, exchange.rpc.action)
        return caller

    async def _by_now(self, exchange: Exchange, caller: Caller) -> tuple[Steps, Caller]:
        """What holds now that the message is there, and who calls: it may have taken longer than a token or a grant."""
        if exchange.age < _AT_ONCE:
            return self, caller
        now = self.now()
        return now, await now.verifier.verify(exchange.metadata)

    def told(self, exception: Exception, exchange: Exchange) -> HeadraceError:
        """The error that the caller gets, of which the log is told."""
        model = exchange.model if exchange.model in self.catalog else ""  # a caller may name anything
        return self.refusals.told(exception, exchange.request_id, model)

    def decide(self, exchange: Exchange, caller: Caller, call: Call) -> tuple[Permit, Route]:
        """May it, how often, and where to. Raises HeadraceError."""
        exchange.enters(Phase.AUTHORIZE)
        permit = self.authorizer.authorize(caller, call)
        exchange.permitted(permit)
        find(self.catalog, permit.model)  # before it is counted: callers may think of any number of models
        exchange.enters(Phase.ADMIT)
        self.admission.quotas.take(permit)
        exchange.enters(Phase.CHOOSE)
        if call.shared_memory and permit.model not in self.upstream.local:
            raise shared_memory_refused()
        route = choose(call, permit, self.catalog, self.draw())
        return permit, self.pinned.stay(call, route) if route.sequence else route


Way = Callable[[Steps, Exchange], Awaitable[bytes | None]]
WAYS: Final[Mapping[str, Way]] = {
    "local": Steps.answer_locally,
    "forward": Steps.pass_on,
    "stream": Steps.pass_on_stream,
    "gather": Steps.ask_all,
    "everywhere": Steps.ask_all,
}
