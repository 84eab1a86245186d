"""The spans of one call: its own, and one of each call to a worker. Law: they are made of what is left of the call.

While it runs only ids are given out, and what happened to calls to workers is noted. A span says what `Ended` says, the
phases in which the time went, of a stream how many messages, and of the caller's claims those that the configuration
names. Of no call it says a token, a tensor or any other claim.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final, NamedTuple

import grpc
from opentelemetry.trace import SpanKind, Status, StatusCode

from gateway.ended import Ended
from gateway.phases import Phase, Phases
from gateway.rpcs import Rpc
from protos import tracing
from protos.contract import PYTHON_LANE
from protos.errors import HeadraceError
from protos.spans import NOWHERE, Made, Spans, Value, new_id
from protos.tracing import NOTHING, Given

_LONGEST: Final = 1000  # characters of a span's status
_LONGEST_CLAIM: Final = 128
_MOST_HOPS: Final = 64  # calls to workers that are noted until it is known whether the call's spans are kept
_OK: Final = grpc.StatusCode.OK

Outcome = tuple[grpc.StatusCode, HeadraceError | None]


class Hop(NamedTuple):
    """A call to a worker that has ended; the clock's seconds."""

    span_id: int
    model: str
    address: str
    began: float
    ended: float
    status: grpc.StatusCode
    reason: str
    words: str


class CallSpans:
    """`started`: when the call came, by the clock; `began` in nanoseconds since the epoch."""

    __slots__ = ("_began", "_hops", "_left_out", "_rpc", "_spans", "_started", "place")

    def __init__(self, spans: Spans, rpc: Rpc, started: float, began: int) -> None:
        self.place = NOWHERE
        self._spans = spans
        self._rpc = rpc
        self._started = started
        self._began = began
        self._hops: list[Hop] = []
        self._left_out = 0

    def begin(self, given: Given) -> None:
        """The caller is known: its trace, if it has one, is this call's."""
        self.place = self._spans.begin(given)

    def hop(self) -> int:
        """The id of the span of a call to a worker; 0 where there is none."""
        return new_id() if self._spans.on else 0

    def hopped(self, span_id: int, model: str, address: str, times: tuple[float, float], outcome: Outcome) -> None:
        """Note how a call to a worker went."""
        status, error = outcome
        began, ended = times
        words = _words(status, error) if status is not _OK else ""
        hop = Hop(span_id, model, address, began, ended, status, (error and error.reason) or "", words)
        if self.place.sampled and self._spans.on:
            self._spans.add(self._made_hop(hop))
        elif len(self._hops) < _MOST_HOPS:
            self._hops.append(hop)
        else:
            self._left_out += 1

    def decide(self, status: grpc.StatusCode, reason: str, seconds: float) -> bool:
        """Whether the call's spans are kept, now that it has ended.

        Strangers draw no lot: their calls end in a refusal, of which so many are kept and no more.
        """
        failed = status is not _OK
        if self.place is NOWHERE:
            self.place = self._spans.first(sampled=False) if failed else self._spans.begin(NOTHING)
        return self._spans.keeps(self.place, (reason or status.name) if failed else "", seconds)

    def tell(self, ended: Ended, error: HeadraceError | None, phases: Phases, claims: Mapping[str, object]) -> None:
        """Send the spans of a call that is kept; `claims` are those that may be told."""
        for hop in self._hops:
            self._spans.add(self._made_hop(hop))
        at = phases.now
        spent = {tracing.PHASES + phase.word: seconds for phase, seconds in phases.spent()}
        attributes = {**dict(_of(ended, at)), **spent, **_written(claims)}
        if self._left_out:
            attributes[tracing.HOPS_LEFT_OUT] = self._left_out
        status = _status(ended.status, _words(ended.status, error))
        until = ended.began + int(ended.duration * 1e9)
        name = ended.rpc.full_name
        self._spans.add(Made(name, SpanKind.SERVER, self.place, ended.began, until, attributes, status))

    def _made_hop(self, hop: Hop) -> Made:
        attributes: dict[str, Value] = {
            **_named(self._rpc),
            tracing.MODEL: hop.model,
            tracing.SERVER_ADDRESS: hop.address,
            **_outcome(hop.status, hop.reason),
        }
        status = _status(hop.status, hop.words)
        return Made(
            self._rpc.full_name,
            SpanKind.CLIENT,
            self._spans.under(self.place.context, span_id=hop.span_id),
            self._at(hop.began),
            self._at(hop.ended),
            attributes,
            status,
        )

    def _at(self, clock: float) -> int:
        return self._began + int((clock - self._started) * 1e9)


def _named(rpc: Rpc) -> Mapping[str, Value]:
    return {tracing.RPC_SYSTEM: "grpc", tracing.RPC_METHOD: rpc.full_name}


def _of(ended: Ended, at: Phase) -> Iterator[tuple[str, Value]]:
    yield from _named(ended.rpc).items()
    yield from _outcome(ended.status, ended.reason).items()
    yield tracing.REQUEST_ID, ended.request_id
    yield tracing.LANE, PYTHON_LANE
    told = {
        tracing.CALLER: ended.caller,
        tracing.GRANT: ended.grant,
        tracing.MODEL: ended.model,
        tracing.VERSION_ASKED: ended.version_asked,
        tracing.VERSION_SERVED: ended.version_served,
    }
    yield from ((name, value) for name, value in told.items() if value)
    if ended.status is not _OK:
        yield tracing.PHASE, at.word
    if ended.rpc.way == "stream":
        yield tracing.MESSAGES_RECEIVED, ended.messages_received
        yield tracing.MESSAGES_SENT, ended.messages_sent


def _outcome(status: grpc.StatusCode, reason: str) -> Mapping[str, Value]:
    told: dict[str, Value] = {tracing.RPC_STATUS: status.name}
    if status is not _OK:
        told[tracing.ERROR_TYPE] = status.name
    if reason:
        told[tracing.REASON] = reason
    return told


def _written(claims: Mapping[str, object]) -> Mapping[str, Value]:
    """Those of words and numbers alone."""
    found: dict[str, Value] = {}
    for name, value in claims.items():
        if isinstance(value, str):
            found[tracing.CLAIMS + name] = value[:_LONGEST_CLAIM]
        elif isinstance(value, float) or (type(value) is int and abs(value) < 2**63):
            found[tracing.CLAIMS + name] = value
    return found


def _words(status: grpc.StatusCode, error: HeadraceError | None) -> str:
    """The private text, which stays among ourselves; but not what a bad token says of itself."""
    if error is None:
        return status.name
    return (error.public if status is grpc.StatusCode.UNAUTHENTICATED else str(error))[:_LONGEST]


def _status(status: grpc.StatusCode, words: str) -> Status:
    return Status(StatusCode.UNSET) if status is _OK else Status(StatusCode.ERROR, words)
