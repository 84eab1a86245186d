"""One message to several copies. Law: OK means that all of them did it; who merely looks gets what there is to see.

Copies are asked at the same time, so many at a time. What a copy fails with is told to the caller by the copy's name,
and to our log by its address.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import grpc

from gateway import merge
from gateway.answer import Answer, out_of_time
from gateway.exchange import Exchange
from gateway.forward import forward_to
from gateway.gather import Passages, Stop
from gateway.wire import Malformed, fields
from protos.complaints import Complaints
from protos.contract import COPIES_KEY
from protos.errors import HeadraceError, Reason, unforeseen

log = logging.getLogger("headrace.gateway.copies")
_complaints: Final = Complaints(log, time.monotonic)

_AT_A_TIME: Final = 32  # copies
_HELD: Final = 256 * 1024**2  # bytes of a large message's sendings
_LOOKS_WITHIN: Final = 5.0  # seconds; who hangs keeps nobody from the answers of the others
_CHANGES_WITHIN: Final = 600.0  # seconds; a large model loads for minutes
_TO_TELL: Final = 1.0  # seconds, at most, of the caller's that are kept to tell it who was not done
_TOLD: Final = 5  # kinds of failures
_NAMED: Final = 8  # copies with each
_LONGEST: Final = 300  # characters of each
_PASSING: Final = {
    grpc.StatusCode.UNAVAILABLE,
    grpc.StatusCode.DEADLINE_EXCEEDED,
    grpc.StatusCode.RESOURCE_EXHAUSTED,
}  # which waiting may help

Told = tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class _Outcomes:
    """Who has answered, and who has not and why; in the order of the copies."""

    answers: Sequence[tuple[Stop, Answer]]
    failures: Sequence[tuple[Stop, HeadraceError]]

    @property
    def told(self) -> Told:
        """How many have answered, as metadata; of how many, if that is known."""
        stops = [stop for stop, _ in (*self.answers, *self.failures)]
        every = len(stops) if all(stop.copy.alone for stop in stops) else "?"
        return ((COPIES_KEY, f"{len(self.answers)}/{every}"),)

    def failed(self) -> HeadraceError:
        """One error for those of several copies."""
        return _failed(self.failures, len(self.answers) + len(self.failures))


async def merged(passages: Passages, exchange: Exchange, request: bytes) -> tuple[Answer, Told]:
    """The rows of every copy that answers, as one, without those of other models; and how many these are.

    A copy that does not answer is left out, and our log says so. Raises HeadraceError: none answers.
    """
    outcomes = await _ask(passages.stops, exchange, _LOOKS_WITHIN)
    for stop, error in outcomes.failures:
        _complaints.warn((exchange.rpc.name, stop.name), _told(exchange, _private(stop, error)))
    if not outcomes.answers:
        raise outcomes.failed()
    parts = [merge.Part(stop.holds, answer.body, alone=stop.copy.alone) for stop, answer in outcomes.answers]
    silent = [stop.holds for stop, _ in outcomes.failures]
    try:
        body = merge.merged(exchange.rpc.name, request, passages.models, parts, silent)
    except merge.Unreadable as error:
        raise unforeseen(exchange.request_id, f"a worker's answer cannot be read: {error}") from None
    return Answer(body, (), ()), outcomes.told


async def everywhere(passages: Passages, exchange: Exchange) -> tuple[Answer, Told]:
    """The first copy's answer when all have done it. Raises HeadraceError: some have not, or cannot all be reached."""
    unknown = [stop for stop in passages.stops if not stop.copy.alone]
    if unknown:
        raise _cannot_reach_all(unknown[0])
    outcomes = await _ask(passages.stops, exchange, _CHANGES_WITHIN)
    for stop, error in outcomes.failures:
        _complaints.warn((exchange.rpc.name, stop.name), _told(exchange, _private(stop, error)))
    if outcomes.failures:
        raise outcomes.failed()
    if len({_content(answer.body) for _, answer in outcomes.answers}) > 1:
        _complaints.warn((exchange.rpc.name, "differ"), _told(exchange, "the copies answer differently"))
    return outcomes.answers[0][1], outcomes.told


async def _ask(stops: Sequence[Stop], exchange: Exchange, most: float) -> _Outcomes:
    room = asyncio.Semaphore(at_a_time(max(len(stop.route.body) for stop in stops)))

    async def ask(stop: Stop) -> Answer | HeadraceError:
        async with room:
            try:
                return await forward_to(stop.copy, stop.permit, stop.route, exchange, _time(exchange, most))
            except HeadraceError as error:
                return error

    results = list(zip(stops, await asyncio.gather(*map(ask, stops)), strict=True))
    return _Outcomes(
        [(stop, result) for stop, result in results if isinstance(result, Answer)],
        [(stop, result) for stop, result in results if isinstance(result, HeadraceError)],
    )


def at_a_time(size: int) -> int:
    """How many copies are sent a message of so many bytes at the same time: each sending holds it once."""
    return max(1, min(_AT_A_TIME, _HELD // max(size, 1)))


def _time(exchange: Exchange, most: float) -> float:
    """Seconds that a copy is given. Raises HeadraceError DEADLINE."""
    left = exchange.remaining(most)
    if left is None or left <= 0:
        raise out_of_time()
    return left - min(_TO_TELL, left / 10)


def _failed(failures: Sequence[tuple[Stop, HeadraceError]], asked: int) -> HeadraceError:
    """Of the kind for which waiting is no help, if there is one; what the only copy says is left as it is."""
    if asked == 1:
        return failures[0][1]
    worst = next((error for _, error in failures if error.status not in _PASSING), failures[0][1])
    by_words: dict[str, list[str]] = {}
    for stop, error in failures:
        by_words.setdefault(_words(error), []).append(stop.name)
    told = [f"{_named(names)}: {words}" for words, names in by_words.items()]
    if len(failures) == asked and len(told) == 1:
        told = list(by_words)
    if len(told) > _TOLD:
        told[_TOLD:] = ["and others"]
    return HeadraceError(
        worst.status,
        worst.reason,
        f"{len(failures)} of {asked} copies failed: {'. '.join(told)}",
        private="; ".join(_private(stop, error) for stop, error in failures[:_TOLD]),
        retry_after=worst.retry_after,
    )


def _named(names: Sequence[str]) -> str:
    more = [f"{len(names) - _NAMED} more"] if len(names) > _NAMED else []
    return "; ".join([*names[:_NAMED], *more])


def _words(error: HeadraceError) -> str:
    return "it does not answer" if error.reason is Reason.MODEL_NOT_READY else error.public[:_LONGEST]


def _told(exchange: Exchange, words: str) -> str:
    return f"{exchange.rpc.name}: {words} (request {exchange.request_id})"


def _private(stop: Stop, error: HeadraceError) -> str:
    return f"{stop.name}, at {stop.copy.address}: {error}"


def _cannot_reach_all(stop: Stop) -> HeadraceError:
    return HeadraceError(
        grpc.StatusCode.FAILED_PRECONDITION,
        Reason.COPIES_UNKNOWN,
        f"nothing was done: it would reach one copy of {stop.route.model.name} {stop.route.version}, for the mesh "
        "chooses; the gateway's configuration does not say how many copies there are",
    )


def _content(body: bytes) -> frozenset[bytes]:
    """What a message says, in whatever order its fields stand."""
    try:
        return frozenset(body[start:end] for _, _, start, _, end in fields(body))
    except Malformed:
        return frozenset({body})
