"""The spans of a worker: one of each call, and one of each execution. Law: they are made of what is known at the end.

An execution's span stands under the first of its calls that is kept and ends, and is linked with all of them, as each
of these is with it. What a model is given and gives, no span says.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import grpc
from opentelemetry.trace import SpanContext, SpanKind, Status, StatusCode

from protos import tracing
from protos.spans import Made, Place, Spans, Value

_ATTEMPTS: Final = {"grpc-previous-rpc-attempts": 1, "x-envoy-attempt-count": 0}
"""Who tries again tells how often it has, or which attempt this is."""
_BY_ENVOY: Final = "x-envoy-attempt-count"
_COPY: Final = "x-forwarded-for"
"""An Envoy says for whom it asks where it copies a call; for callers of headrace it does not, nor may they."""
_MOST_ATTEMPTS: Final = 1000


@dataclass(slots=True, eq=False)
class Ran:
    """One execution: nanoseconds since the epoch, seconds, and the calls that ran together.

    `batch` is the size of all together; `place` is there once its span is told.
    """

    model: str
    version: int
    provider: str
    batch: int
    began: int
    computed: float
    ended: int
    calls: Sequence[SpanContext]
    place: Place | None = None


class CallSpan:
    """What is noted of a call, until it is known whether its span is kept."""

    __slots__ = (
        *(
            "_began",
            "_copied",
            "_metadata",
            "_method",
            "_ran",
            "_spans",
            "_started",
            "_words",
            "place",
            "received",
            "status",
        ),
        *("said", "sent"),
    )

    def __init__(self, spans: Spans, method: str, metadata: Sequence[tuple[str, str | bytes]]) -> None:
        copied = is_copy(metadata)
        self.place = spans.begin(tracing.extract(metadata), _traced(metadata) if copied else "")
        self.said: dict[str, Value] = {}
        self.received = self.sent = 0  # messages of a stream
        self._copied = copied
        self._spans = spans
        self._method = method
        self._metadata = metadata
        self._began = time.time_ns()
        self._started = time.monotonic()
        self.status, self._words = grpc.StatusCode.OK, ""
        self._ran: Ran | None = None

    def served(self, version: int, batch: int, queued: float, ran: Ran | None) -> None:
        """Which version answered, in a batch of which size, after how many seconds in its queue."""
        self.said |= {tracing.VERSION_SERVED: str(version), tracing.BATCH_SIZE: batch, tracing.QUEUE_TIME: queued}
        self._ran = ran

    def ends(self, status: grpc.StatusCode, words: str = "") -> None:
        """How the call ends."""
        self.status, self._words = status, words

    def close(self) -> float:
        """Tell the span, if it is kept; how many seconds it took."""
        seconds = time.monotonic() - self._started
        failed = self.status is not grpc.StatusCode.OK
        kind = str(self.said.get(tracing.REASON) or self.status.name) if failed else ""
        if self._spans.keeps(self.place, kind, seconds):
            links = self._tell_execution()
            status = Status(StatusCode.ERROR, self._words) if failed else Status(StatusCode.UNSET)
            attributes = dict(self._attributes())
            ended = self._began + int(seconds * 1e9)
            made = Made(self._method, SpanKind.SERVER, self.place, self._began, ended, attributes, status, links)
            self._spans.add(made)
        return seconds

    def _attributes(self) -> Iterator[tuple[str, Value]]:
        yield from {tracing.RPC_SYSTEM: "grpc", tracing.RPC_METHOD: self._method}.items()
        yield from self.said.items()
        yield tracing.RPC_STATUS, self.status.name
        if self.status is not grpc.StatusCode.OK:
            yield tracing.ERROR_TYPE, self.status.name
        if self.received:
            yield tracing.MESSAGES_RECEIVED, self.received
            yield tracing.MESSAGES_SENT, self.sent
        if self._ran is not None:
            yield tracing.COMPUTE_TIME, self._ran.computed
        if (attempt := attempt_of(self._metadata)) > 1:
            yield tracing.ATTEMPT, attempt
        if self._copied:
            yield tracing.SHADOW, True

    def _tell_execution(self) -> Sequence[SpanContext]:
        """The execution's own context; its span is told by whichever call is the first."""
        ran = self._ran
        if ran is None or not self._spans.on:
            return ()
        if ran.place is None:
            ran.place = self._spans.under(self.place.context)
            attributes: dict[str, Value] = {
                tracing.MODEL: ran.model,
                tracing.VERSION_SERVED: str(ran.version),
                tracing.PROVIDER: ran.provider,
                tracing.BATCH_SIZE: ran.batch,
                tracing.BATCH_CALLS: len(ran.calls),
                tracing.COMPUTE_TIME: ran.computed,
            }
            name, status = f"execute {ran.model}", Status(StatusCode.UNSET)
            made = Made(name, SpanKind.INTERNAL, ran.place, ran.began, ran.ended, attributes, status, ran.calls)
            self._spans.add(made)
        return (ran.place.context,)


def attempt_of(metadata: Sequence[tuple[str, str | bytes]]) -> int:
    """Which attempt of a call this is, as gRPC's client or an Envoy tells; 1 where nobody says."""
    found = 1
    for key, value in metadata:
        before = _ATTEMPTS.get(key)
        if before is not None and isinstance(value, str) and value.isascii() and value.isdigit():
            found = max(found, min(int(value[:9]) + before, _MOST_ATTEMPTS))
    return found


def _traced(metadata: Sequence[tuple[str, str | bytes]]) -> str:
    """The trace of which the gateway says that it is sampled: Istio says of no copy that it is."""
    return next((value for key, value in metadata if key == tracing.TRACED_KEY and isinstance(value, str)), "")


def is_copy(metadata: Sequence[tuple[str, str | bytes]]) -> bool:
    """Whether it is a mirrored call, as far as nothing but sidecars stand between the gateway and here."""
    return {_BY_ENVOY, _COPY} <= {key for key, _ in metadata}
