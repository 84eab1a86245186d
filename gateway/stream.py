"""ModelStreamInfer: one caller's stream, fanned out. Law: order within a destination is kept; no loss is silent.

Each destination (model, version, pinned or drawn, sequence) has its own upstream stream (`gateway.branch`), opened when
first needed; that of a sequence that has ended is kept until its place is needed. A message that is refused is answered
in-band (`error_message`, as Triton does), or ends the stream with a real status where the caller sends
`triton_grpc_error: true`; so does what a worker says in-band, which is not told of this: Triton 2.51 may die of it. An
upstream stream that fails ends the caller's: nobody could tell which of the messages
under way were lost with it. So does a token that expires and a grant that is taken away, whether messages come or not.
"""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Collection
from typing import Final, Protocol

import grpc

from gateway import in_band
from gateway.answer import LONGEST
from gateway.authorize import Permit
from gateway.branch import STUCK, Branch
from gateway.choose import Route
from gateway.exchange import Exchange
from gateway.upstream import Upstream
from protos.errors import HeadraceError, Reason

_Destination = tuple[str, str, bool, str]

_REAL_STATUS: Final = "triton_grpc_error"
_BRANCHES: Final = 256  # upstream streams of one caller's, each of which a breaker counts
_PATIENCE: Final = 100  # messages in a row that are refused before the stream is
_LOOK: Final = 2.0  # seconds between looks at whether the caller still may


class Decider(Protocol):
    """What is decided of messages, and who hears what becomes of them: `gateway.messages` has it."""

    async def decide(self, message: bytes) -> tuple[Permit, Route, Upstream]:
        """Where it goes. Raises HeadraceError."""

    async def still(self, models: Collection[str]) -> float:
        """Seconds for which the token is good by which it may still infer with these models. Raises HeadraceError."""

    def allowed(self, model: str) -> None:
        """One goes on."""

    def refused(self, error: HeadraceError) -> None:
        """One that was allowed finds no room."""

    def sent(self, model: str) -> None:
        """An answer went to the caller: of this model, or empty where it is a refusal."""


async def relay(exchange: Exchange, decider: Decider) -> None:
    """Carry a stream until both sides are done. Raises HeadraceError; cancelled, it cancels every upstream stream."""
    try:
        await _Relay(exchange, decider).run()
    except BaseExceptionGroup as failed:
        # Where several branches fail at once, the caller is told of one.
        first: BaseException = failed
        while isinstance(first, BaseExceptionGroup):
            first = first.exceptions[0]
        raise first from None


class _Relay:
    def __init__(self, exchange: Exchange, decider: Decider) -> None:
        self._exchange = exchange
        self._decider = decider
        self._branches: dict[_Destination, Branch] = {}
        self._running: dict[asyncio.Task[None], Branch] = {}  # those, and others that are still to end
        self._ended: dict[_Destination, None] = {}  # sequences, in the order in which they have ended
        self._writing = asyncio.Lock()  # gRPC takes one message of a stream at a time
        self._refused = 0  # messages one after another
        self._real_status = exchange.header(_REAL_STATUS).lower() == "true"

    async def run(self) -> None:
        async with asyncio.TaskGroup() as beside:
            watching = beside.create_task(self._watch())
            async with asyncio.TaskGroup() as tasks:
                while (message := await self._exchange.next()) is not None:
                    await self._pass_on(message, tasks)
                for branch in self._branches.values():  # one that is stuck holds up no other
                    tasks.create_task(branch.close())
            watching.cancel()

    async def _watch(self) -> None:
        """Raises HeadraceError: the caller may no more, though no message tells."""
        while True:
            left = await self._decider.still({branch.model for branch in self._running.values()})
            await asyncio.sleep(min(left, _LOOK))

    async def _pass_on(self, message: bytes, tasks: asyncio.TaskGroup) -> None:
        try:
            permit, route, upstream = await self._decider.decide(message)
            branch = await self._branch(permit, route, upstream, tasks)
            self._decider.allowed(permit.model)
            await branch.put(route.body)
        except HeadraceError as error:
            self._refused += 1
            if self._real_status or error.status is grpc.StatusCode.UNAUTHENTICATED or self._refused > _PATIENCE:
                raise
            await self._write("", in_band.refusal(error, message))
            return
        self._refused = 0
        if route.sequence_end:
            self._ended[_destination(route)] = None

    async def _branch(self, permit: Permit, route: Route, upstream: Upstream, tasks: asyncio.TaskGroup) -> Branch:
        """The upstream stream of the route's destination. Raises HeadraceError OVERLOADED: there are too many."""
        destination = _destination(route)
        self._ended.pop(destination, None)  # the sequence has begun anew
        branch = self._branches.get(destination)
        if branch is None:
            if len(self._branches) >= _BRANCHES:
                await self._make_room(tasks)
            branch = self._branches[destination] = Branch(
                route.model.name, functools.partial(self._hand_on, route.model.name)
            )
            running = tasks.create_task(branch.run(self._exchange, permit, route, upstream))
            self._running[running] = branch
            running.add_done_callback(self._running.pop)
        return branch

    async def _make_room(self, tasks: asyncio.TaskGroup) -> None:
        """Let go of the stream of a sequence that has ended, once few of these have still to answer.

        Raises HeadraceError OVERLOADED: none has ended, or workers do not come to an end with any.
        """
        if self._ended and len(self._running) >= 2 * _BRANCHES:
            await asyncio.wait(self._running, timeout=STUCK, return_when=asyncio.FIRST_COMPLETED)
        if not self._ended or len(self._running) >= 2 * _BRANCHES:
            full = HeadraceError(
                grpc.StatusCode.RESOURCE_EXHAUSTED,
                Reason.OVERLOADED,
                f"one stream carries at most {_BRANCHES} sequences and models; use several streams",
            )
            self._decider.refused(full)
            raise full
        destination = next(iter(self._ended))
        del self._ended[destination]
        tasks.create_task(self._branches.pop(destination).close())  # what it still answers is passed on

    async def _hand_on(self, model: str, answer: bytes) -> None:
        if self._real_status and (words := in_band.error_in(answer)):
            # Of which kind it is, no worker says in-band.
            raise HeadraceError(grpc.StatusCode.UNKNOWN, None, words[:LONGEST])
        await self._write(model, answer)

    async def _write(self, model: str, message: bytes) -> None:
        async with self._writing:
            await self._exchange.write(message)
        self._decider.sent(model)


def _destination(route: Route) -> _Destination:
    return route.model.name, route.version, route.pinned, route.sequence
