"""The demo's calls. Law: every step checks what it shows, and a step that is not as it says raises CommandError."""

from __future__ import annotations

import asyncio
import itertools
import math
import statistics
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from opentelemetry.trace import SpanKind, Tracer

from headrace.client import Answer, Client, Refused, Signature
from headrace.demo.config import CANARY_SHARE
from headrace.demo.digits import MODEL, Pictures, Trained, accuracy
from headrace.demo.issuer import Issuer
from headrace.failure import CommandError
from headrace.tensors import Pixels
from headrace.traces.collector import Collector
from headrace.traces.spans import Span
from headrace.traces.store import Store
from headrace.traces.tree import tree
from protos import tracing
from protos.contract import SERVICE

NOT_GRANTED: Final = "letters"  # a model that the demo's callers have no grant for
AT_ONCE: Final = 4  # calls in flight, of one picture each
_TRACED_AMONG: Final = 4  # calls sent at once, so that the trace shows a batch
_SPANS_WAIT: Final = 10.0  # seconds
_CHAIN: Final = ("client", "server", "client", "server")
_SIDECARS: Final = ("client", "server")  # between the gateway and the worker


@dataclass(frozen=True)
class Score:
    """One version through the gateway: `latencies` in seconds, one for each picture; `local` is the accuracy here."""

    version: str
    how: str
    right: int
    pictures: int
    local: float
    latencies: tuple[float, ...]

    @property
    def accuracy(self) -> float:
        """The share read right."""
        return self.right / self.pictures

    @property
    def median(self) -> float:
        """Seconds that half of the calls stayed under."""
        return statistics.median(self.latencies)


@dataclass(frozen=True)
class Rejection:
    """A call that must be refused: who asked for what, and the answer it got."""

    case: str
    refused: Refused


class Caller:
    """Sends the held-out pictures, with a good token, as any caller of `digits` would."""

    def __init__(self, client: Client, token: str, held: Pictures, signature: Signature) -> None:
        self._client = client
        self._token = token
        self._held = held
        self._signature = signature
        self._numbers = itertools.count()

    async def score(self, trained: Trained, advance: Callable[[], None]) -> Score:
        """Every picture, in a call of its own, to this version; checks the answers against the model's own, here."""
        answers, latencies = await self._all(trained.version, advance)
        strays = {answer.version for answer in answers} - {trained.version}
        if strays:
            raise CommandError(f"calls for version {trained.version} were answered by version {', '.join(strays)}")
        said = np.concatenate([answer.labels for answer in answers])
        local = accuracy(trained.predictions, self._held.labels)
        right = int(np.sum(said == self._held.labels))
        score = Score(trained.version, trained.how, right, len(said), local, latencies)
        if score.accuracy != local:
            raise CommandError(
                f"version {trained.version} reads {score.accuracy:.2%} right through the gateway, but {local:.2%} here"
            )
        return score

    async def split(self, advance: Callable[[], None]) -> Mapping[str, int]:
        """Version -> how many unpinned calls it answered; checks them against the configured shares."""
        answers, _ = await self._all("", advance)
        reached = Counter(answer.version for answer in answers)
        check_split(reached, CANARY_SHARE / 100)
        return reached

    async def traced(self, tracer: Tracer, version: str) -> str:
        """The id of the trace of one call, which is sent with others at the same time."""
        others = asyncio.gather(*(self._call(at, version) for at in range(1, _TRACED_AMONG)))
        with tracer.start_as_current_span(f"{SERVICE}/ModelInfer", kind=SpanKind.CLIENT) as span:
            await self._call(0, version, tracing.inject(span))
        await others
        return f"{span.get_span_context().trace_id:032x}"

    async def one(self, version: str) -> Answer:
        """One picture, to this version, or (empty) to whichever the traffic decides on. Raises Refused."""
        return await self._call(next(self._numbers) % len(self._held.labels), version)

    async def _all(self, version: str, advance: Callable[[], None]) -> tuple[list[Answer], tuple[float, ...]]:
        """The answers in the pictures' order, and what each call took, in seconds."""
        room = asyncio.Semaphore(AT_ONCE)

        async def one(at: int) -> tuple[Answer, float]:
            async with room:
                began = time.perf_counter()
                answer = await self._call(at, version)
                advance()
                return answer, time.perf_counter() - began

        try:
            done = await asyncio.gather(*(one(at) for at in range(len(self._held.labels))))
        except Refused as refused:
            raise CommandError(f"a call that the grant allows was refused: {refused}") from None
        return [answer for answer, _ in done], tuple(took for _, took in done)

    async def _call(self, at: int, version: str, headers: Sequence[tuple[str, str]] = ()) -> Answer:
        picture: Pixels = self._held.pixels[at : at + 1]
        return await self._client.classify(
            MODEL, picture, self._signature, version=version, token=self._token, headers=headers
        )


def check_split(reached: Mapping[str, int], canary: float) -> None:
    """Raises CommandError unless the canary's count is within five standard deviations of its share."""
    calls = sum(reached.values())
    expected, spread = calls * canary, math.sqrt(calls * canary * (1 - canary))
    if set(reached) - {"1", "2"} or abs(reached.get("2", 0) - expected) > 5 * spread:
        raise CommandError(f"of {calls} unpinned calls the versions got {dict(reached)}, far from {canary:.0%} for 2")


async def rejections(client: Client, issuer: Issuer, picture: Pixels, signature: Signature) -> list[Rejection]:
    """Calls that must be refused; checks the status and the reason of each."""
    return [
        await rejection(case, client.classify(model, picture.reshape(1, -1), signature, token=token), status, reason)
        for case, model, token, status, reason in (
            ("no token", MODEL, None, "UNAUTHENTICATED", "TOKEN_MISSING"),
            ("token expired", MODEL, issuer.expired(), "UNAUTHENTICATED", "TOKEN_EXPIRED"),
            ("token forged", MODEL, issuer.forged(), "UNAUTHENTICATED", "TOKEN_INVALID"),
            ("model not granted", NOT_GRANTED, issuer.token(), "PERMISSION_DENIED", "NOT_GRANTED"),
        )
    ]


async def rejection(case: str, answer: Awaitable[Answer], status: str, reason: str) -> Rejection:
    """The refusal of one call. Raises CommandError where it is answered, or refused otherwise."""
    try:
        await answer
    except Refused as refused:
        if (refused.status, refused.reason) == (status, reason):
            return Rejection(case, refused)
        raise CommandError(f"the call ({case}) should get {status} {reason}, but got {refused}") from None
    raise CommandError(f"the call ({case}) should be refused, but was answered")


async def lanes(collector: Collector, calls: int) -> Mapping[str, int]:
    """Lane -> how many of the calls so far came by it. Raises CommandError where some came by none."""
    found = await collector.until(
        lambda: _lanes(collector.store), lambda seen: sum(seen.values()) >= calls, _SPANS_WAIT
    )
    if sum(found.values()) < calls:
        raise CommandError(f"of {calls} calls the gateway traced {dict(found)}")
    return found


def _lanes(store: Store) -> Mapping[str, int]:
    spans = (span for trace in store.traces() for span in trace if span.kind == "server")
    return Counter(lane for span in spans if isinstance(lane := span.attributes.get(tracing.LANE), str))


async def trace(collector: Collector, trace_id: str, version: str, *, meshed: bool = False) -> Sequence[Span]:
    """The spans of a call that `version` answered; checks that they are one chain, from the caller to the worker."""
    store, wanted = collector.store, len(_CHAIN) + (len(_SIDECARS) if meshed else 0)
    spans = await collector.until(
        lambda: store.trace(trace_id), lambda found: len(_calls(found)) >= wanted, _SPANS_WAIT
    )
    check_chain(spans, version, meshed=meshed)
    return spans


def _calls(spans: Sequence[Span]) -> Sequence[Span]:
    return [place.span for place in tree(spans) if place.span.kind != "internal"]


def check_chain(spans: Sequence[Span], version: str, *, meshed: bool = False) -> None:
    """Raises CommandError unless the spans go caller, gateway in, gateway out, worker, each the next one's parent.

    In a mesh both sidecars are before the worker. What the worker did for several calls at once is not looked at.
    """
    chain = _calls(spans)
    if tuple(span.kind for span in chain) != (*_CHAIN[:3], *(_SIDECARS if meshed else ()), *_CHAIN[3:]):
        raise CommandError(f"the trace has the spans {[f'{s.service} {s.kind}' for s in chain]}, not one call's chain")
    parents = [span.parent for span in chain]
    if parents != ["", *(span.id for span in chain[:-1])]:
        raise CommandError("the spans of the call are not each other's children")
    if chain[1].service != chain[2].service or len({span.service for span in chain}) != len(chain) - 1:
        raise CommandError("the spans of the call do not come from the caller, the gateway and the worker")
    if chain[-1].attributes.get(tracing.VERSION_SERVED) != version:
        raise CommandError(f"the worker's span does not say that version {version} answered")
