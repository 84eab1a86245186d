"""Where calls come in. Law: one method per way of answering, each of which reads as the sentence in the design.

Generic handlers without (de)serialisers: messages are bytes here. The token is verified before the message is read,
so that a stranger cannot make us hold what it sends.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any, Final

import grpc
import grpc.aio

from gateway import every_copy, gather
from gateway.admission import Admission
from gateway.answer import Answer
from gateway.authorize import Authorizer, Permit, shared_memory_refused
from gateway.call import Call, read_call
from gateway.caller import Caller
from gateway.choose import Route, choose, find
from gateway.counted import Messages
from gateway.exchange import Around, Context, Exchange
from gateway.forward import forward
from gateway.lane import Lane
from gateway.local import Local
from gateway.phases import Phase
from gateway.pinned import Pinned
from gateway.readiness import Readiness
from gateway.refusals import Refusals
from gateway.rpcs import RPCS, Rpc
from gateway.stream import Told, relay
from gateway.upstream import Upstream
from gateway.verify import Verifier
from mesh.catalog import Catalog
from protos import of_call
from protos.boundary import refuse
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
            models: set[str] = set()

            async def decide_each(message: bytes) -> tuple[Permit, Route, Upstream]:
                exchange.enters(Phase.VERIFY)
                caller = await self.verifier.verify(exchange.metadata)
                exchange.enters(Phase.READ)
                exchange.asks_nothing()
                now = self.now()
                try:
                    call = read_call(exchange.rpc, message)
                    exchange.asks(call)
                    now.account()
                    permit, route = now.decide(exchange, caller, call)
                    if permit.model not in models:
                        exchange.enters(Phase.ADMIT)
                        running.enter_context(now.admission.streaming(permit))
                        models.add(permit.model)
                except HeadraceError as error:
                    refused(error)
                    raise
                exchange.enters(Phase.UPSTREAM)
                return permit, route, now.upstream

            def refused(error: HeadraceError) -> None:  # of which the stream's own end will say nothing
                model = exchange.model if exchange.model in self.now().catalog else ""
                self.refusals.told(error, exchange.request_id, model)
                exchange.decided(error)
                self.messages.received("")

            begun: set[str] = set()

            def allowed(model: str) -> None:
                self.messages.received(model)
                if model not in begun:
                    begun.add(model)
                    exchange.decided()

            async def still(models: Collection[str]) -> float:
                caller = await self.verifier.verify(exchange.metadata)
                self.now().authorizer.keep(caller, models)
                return self.verifier.left(caller)

            await relay(exchange, decide_each, still, Told(allowed, refused, self.messages.sent))

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
_WAYS: Final[Mapping[str, Way]] = {
    "local": Steps.answer_locally,
    "forward": Steps.pass_on,
    "stream": Steps.pass_on_stream,
    "gather": Steps.ask_all,
    "everywhere": Steps.ask_all,
}


class Service(grpc.GenericRpcHandler):
    """Every RPC of the service, each handled in the way that `gateway.rpcs` names, by the steps that hold `now`.

    `running`: how many calls are under way.
    """

    def __init__(
        self,
        now: Callable[[], Steps],
        readiness: Readiness,
        refusals: Refusals,
        around: Around,
    ) -> None:
        self.running = 0
        self._readiness = readiness
        self._refusals = refusals
        self._now = now
        self._around = around
        self._handlers = {path: self._handler(rpc) for path, rpc in RPCS.items()}

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler[Any, Any] | None:
        """The handler of the RPC; None (UNIMPLEMENTED) for a path that the contract does not have."""
        return self._handlers.get(handler_call_details.method)

    def _handler(self, rpc: Rpc) -> grpc.RpcMethodHandler[Any, Any]:
        way = _WAYS[rpc.way]

        async def answer(_messages: object, context: Context) -> bytes | None:  # gRPC looks longer at a partial
            self.running += 1
            try:
                return await self._answer(rpc, way, context)
            finally:
                self.running -= 1

        if rpc.way == "stream":
            return grpc.stream_stream_rpc_method_handler(answer)
        # Declared as a stream of requests so that the message is read when we ask for it, and not before.
        return grpc.stream_unary_rpc_method_handler(answer)

    async def _answer(self, rpc: Rpc, way: Way, context: Context) -> bytes | None:
        """Answer one call; whatever goes wrong becomes a status here."""
        exchange = Exchange(rpc, context, self._around)
        of_call.begin(exchange)
        steps = self._now()
        try:
            await self._readiness.admit()
            if not rpc.open:
                self._readiness.account()
            answer = await way(steps, exchange)
        except asyncio.CancelledError:
            exchange.end(self._cut_short(exchange))
            raise
        except Exception as exception:  # noqa: BLE001 - the boundary: whatever it is, the caller gets a status
            if exchange.left:  # writing to who has gone fails
                exchange.end(self._cut_short(exchange))
                return None
            model = exchange.model if exchange.model in steps.catalog else ""  # a caller may name anything
            error = self._refusals.told(exception, exchange.request_id, model)
            exchange.end(error.status, error)
            await refuse(context, error, exchange.request_id)
        else:
            exchange.end(grpc.StatusCode.OK)
            return answer

    def _cut_short(self, exchange: Exchange) -> grpc.StatusCode:
        """Of a call that gRPC has ended: by the caller's deadline, by us, or because the caller left."""
        remaining = exchange.remaining()
        if remaining is not None and remaining <= 0:
            return grpc.StatusCode.DEADLINE_EXCEEDED
        return grpc.StatusCode.UNAVAILABLE if self._readiness.closing else grpc.StatusCode.CANCELLED
