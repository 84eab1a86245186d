"""Calls that leave a line in the access log. Law: one line for each, at its end, with what the caller was told.

It names callers, models and versions, and holds nothing else that a caller has sent: no token, claim or tensor.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Final
from urllib.parse import unquote

import grpc
from opentelemetry import context as otel
from opentelemetry.trace import Tracer, get_current_span

from gateway.access_log import AccessLog, Line
from gateway.answer import Answer
from gateway.call import Call
from gateway.caller import Caller
from gateway.exchange import Context, Exchange
from gateway.rpcs import Rpc
from protos import tracing
from protos.contract import PEER_KEY
from protos.errors import HeadraceError

_FRAME: Final = 5  # bytes before each message


class Logged(Exchange):
    """An exchange that notes what its line is to say; `fronted`: whether an Envoy of ours tells who has called it."""

    __slots__ = ("_caller", "_fronted", "_in_a_trace", "_log", "_received", "_sent", "_version")

    def __init__(
        self, rpc: Rpc, context: Context, tracer: Tracer, clock: Callable[[], float], log: AccessLog, *, fronted: bool
    ) -> None:
        super().__init__(rpc, context, tracer, clock)
        self._log = log
        self._fronted = fronted
        self._caller = ""
        self._version = ""
        self._received = 0
        self._sent = 0
        self._in_a_trace = False

    def known(self, caller: Caller) -> None:
        """Note who calls."""
        super().known(caller)
        self._caller = caller.name

    def _begin(self, parent: otel.Context) -> None:
        super()._begin(parent)
        context = self._span.get_span_context()
        # Of a trace that begins here and is not kept nobody else has heard.
        self._in_a_trace = context.trace_flags.sampled or get_current_span(parent).get_span_context().is_valid

    async def next(self) -> bytes | None:
        """Note how much comes."""
        message = await super().next()
        if message is not None:
            self._received += len(message) + _FRAME
        return message

    async def write(self, message: bytes) -> None:
        """Note how much goes."""
        await super().write(message)
        self._sent += len(message) + _FRAME

    def asks(self, call: Call) -> None:
        """Note what is asked for."""
        super().asks(call)
        self._version = call.version

    async def reply(self, answer: Answer, ours: Sequence[tuple[str, str]] = ()) -> bytes:
        """Note how much goes."""
        body = await super().reply(answer, ours)
        self._sent += len(body) + _FRAME
        return body

    def end(self, outcome: grpc.StatusCode, error: HeadraceError | None = None) -> None:
        """Leave the line."""
        super().end(outcome, error)
        told = {
            tracing.MODEL: _short(self.model),
            tracing.VERSION_ASKED: _short(self._version),
            tracing.CALLER: _short(self._caller),
            tracing.REASON: (error and error.reason) or "",
            tracing.TRACE_ID: f"{self._span.get_span_context().trace_id:032x}" if self._in_a_trace else "",
            tracing.PEER_ADDRESS: self._peer(),
        }
        always: dict[str, str | int] = {
            tracing.LANE: "python",
            tracing.RPC_METHOD: self.rpc.full_name,
            tracing.RPC_STATUS: outcome.name,
            tracing.REQUEST_ID: self.request_id,
            tracing.DURATION: int(self.age * 1000),
            tracing.REQUEST_SIZE: self._received,
            tracing.RESPONSE_SIZE: self._sent,
        }
        self._log.write(Line(self._began, always | {name: value for name, value in told.items() if value}))

    def _peer(self) -> str:
        return self.header(PEER_KEY)[: tracing.LONGEST] if self._fronted else address_of(self._context.peer())


def _short(name: str) -> str:
    """Of a name that is written with many escapes little is left: a pipe takes no more than 4 KiB of a line at once."""
    name = name[: tracing.LONGEST]
    while len(json.dumps(name)) > tracing.LONGEST + 2:
        name = name[: len(name) * 3 // 4]
    return name


def exchanges(
    tracer: Tracer, clock: Callable[[], float], log: AccessLog | None, *, fronted: bool
) -> Callable[[Rpc, Context], Exchange]:
    """What makes the exchange of a call; where there is no access log, a plain one."""
    if log is None:
        return lambda rpc, context: Exchange(rpc, context, tracer, clock)
    return lambda rpc, context: Logged(rpc, context, tracer, clock, log, fronted=fronted)


def address_of(peer: str) -> str:
    """The address in gRPC's word for a peer, `ipv4:127.0.0.1:80` or `ipv6:%5B::1%5D:80`; empty where it has none."""
    kind, _, rest = peer.partition(":")
    return unquote(rest).rpartition(":")[0].strip("[]").removeprefix("::ffff:") if kind in ("ipv4", "ipv6") else ""
