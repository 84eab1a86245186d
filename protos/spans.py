"""Spans, made when they have ended. Law: what is not kept costs its ids and nothing else.

When a call begins it gets its place in a trace, and whether it is sampled: what comes under a parent is if its parent
is, and of what has no parent a share. Both are told on. At the call's end its span is made from what is known then, if
it is sampled, has failed or was slow: the ids were told on already, so that the spans of all processes fit together.
Of those that are kept for their failure or slowness each kind may be so many a second; others are counted as lost.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Final, NamedTuple, Protocol

from opentelemetry.attributes import BoundedAttributes
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import INVALID_SPAN_CONTEXT, Link, SpanContext, SpanKind, Status, TraceFlags

from protos import dropped
from protos.dropped import Signal
from protos.redacted import redacted
from protos.tracing import LONGEST, Given, resource, sending

Value = str | int | float | bool

SLOW: Final = "slow"
"""Why a span is kept that did not fail."""
_A_SECOND: Final = 20.0  # spans of a kind that are kept at their end
_AT_ONCE: Final = 100.0
_MOST_LINKS: Final = 128
_RANDOM: Final = TraceFlags(TraceFlags.RANDOM_TRACE_ID)
_BOTH: Final = TraceFlags.SAMPLED | TraceFlags.RANDOM_TRACE_ID


class Place(NamedTuple):
    """Where a span stands: its own context, which is told on, and its parent's (invalid: it is the first)."""

    context: SpanContext
    parent: SpanContext

    @property
    def sampled(self) -> bool:
        """Whether its span is kept whatever comes."""
        return self.context.trace_flags.sampled

    @property
    def given(self) -> bool:
        """Whether another began the trace."""
        return self.parent.is_valid

    @property
    def trace_id(self) -> str:
        """32 hexadecimal digits."""
        return f"{self.context.trace_id:032x}"


NOWHERE: Final = Place(INVALID_SPAN_CONTEXT, INVALID_SPAN_CONTEXT)


class Made(NamedTuple):
    """What a span says. Times are nanoseconds since the epoch."""

    name: str
    kind: SpanKind
    place: Place
    began: int
    ended: int
    attributes: Mapping[str, Value]
    status: Status
    links: Sequence[SpanContext] = ()


class Sender(Protocol):
    """Sends spans; `protos.batches.Spans` is one. None of it blocks but `shutdown`, which sends what is left."""

    def send(self, make: Callable[[], ReadableSpan]) -> None:
        """Have a span sent, which may be made later, and in another thread."""

    def shutdown(self) -> None:
        """The end."""


class Spans:
    """One process's spans. Without a sender there are none, and the caller's context is handed on as it is.

    `sample`: the share of traces that begin here and are kept; `slow`: seconds; `clock` is monotonic, in seconds.
    """

    def __init__(
        self,
        scope: str,
        sender: Sender | None = None,
        who: Resource | None = None,
        *,
        sample: float = 1.0,
        slow: float = 1.0,
        clock: Callable[[], float] = time.monotonic,
        lost: Callable[[Signal], None] = dropped.add,
    ) -> None:
        self.on: Final = sender is not None
        self._sender = sender
        self._scope = InstrumentationScope(scope)
        self._who = who
        self._sample = sample
        self._slow = slow
        self._clock = clock
        self._lost = lost
        self._room: dict[str, tuple[float, float]] = {}  # kind -> how many more, as of when

    def begin(self, given: Given, traced: str = "") -> Place:
        """The place of a span under the caller's own, or at the beginning of a trace, of which the lane may draw.

        A trace whose id is the one `traced` is sampled, whatever the caller's flag says.
        """
        parent = given.parent
        if not self.on:
            return Place(parent, parent)
        if parent.is_valid:
            forced = traced == f"{parent.trace_id:032x}" if traced else False
            return self.under(parent, TraceFlags.SAMPLED if forced else 0)
        drawn = given.drawn or random.random() < self._sample  # noqa: S311 - no secret
        return self.first(sampled=drawn)

    def first(self, *, sampled: bool) -> Place:
        """The place of a span that begins a trace."""
        if not self.on:
            return NOWHERE
        flags = TraceFlags(_BOTH) if sampled else _RANDOM
        context = SpanContext(random.getrandbits(128) or 1, new_id(), is_remote=False, trace_flags=flags)
        return Place(context, INVALID_SPAN_CONTEXT)

    def under(self, parent: SpanContext, more: int = 0, span_id: int = 0) -> Place:
        """The place of a span under another, with its flags and some more; `span_id`: where that was given out."""
        flags = TraceFlags(parent.trace_flags & _BOTH | more)
        context = SpanContext(
            parent.trace_id, span_id or new_id(), is_remote=False, trace_flags=flags, trace_state=parent.trace_state
        )
        return Place(context, parent)

    def keeps(self, place: Place, failure: str, seconds: float) -> bool:
        """Whether the spans of a call that has ended are kept; `failure` is empty, or the kind of its failure.

        Kinds are words of ours, of which there are few.
        """
        if place.sampled:
            return self.on
        if not self.on or not (failure or seconds >= self._slow):
            return False
        if self._has_room(failure or SLOW):
            return True
        self._lost(Signal.SPANS_OVER_LIMIT)
        return False

    def add(self, made: Made) -> None:
        """Send a span that is kept."""
        if self._sender is not None:
            self._sender.send(partial(self._readable, made))

    def _readable(self, made: Made) -> ReadableSpan:
        context = made.place.context
        kept = SpanContext(
            context.trace_id,
            context.span_id,
            is_remote=False,
            trace_flags=TraceFlags(context.trace_flags | TraceFlags.SAMPLED),
            trace_state=context.trace_state,
        )
        return ReadableSpan(
            made.name,
            context=kept,
            parent=made.place.parent if made.place.given else None,
            resource=self._who,
            attributes=BoundedAttributes(attributes=made.attributes, max_value_len=LONGEST),
            links=[Link(link) for link in made.links[:_MOST_LINKS]],
            kind=made.kind,
            status=_without_secrets(made.status),
            start_time=made.began,
            end_time=made.ended,
            instrumentation_scope=self._scope,
        )

    def close(self) -> None:
        """Send what is left; blocks for two seconds at most."""
        if self._sender is not None:
            self._sender.shutdown()

    def _has_room(self, kind: str) -> bool:
        now = self._clock()
        left, then = self._room.get(kind, (_AT_ONCE, now))
        left = min(_AT_ONCE, left + (now - then) * _A_SECOND)
        self._room[kind] = (left - 1 if left >= 1 else left, now)
        return left >= 1


def _without_secrets(status: Status) -> Status:
    """What workers say of a failure is theirs to choose, and some repeat what they were sent."""
    return Status(status.status_code, redacted(status.description)) if status.description else status


def to(otlp: str | None, service: str, scope: str, *, sample: float = 1.0, slow: float = 1.0) -> Spans:
    """The spans of a process, by OTLP/gRPC to `otlp` (`http://HOST:PORT`); None: there are none."""
    if otlp is None:
        return Spans(scope)
    return Spans(scope, sending(otlp), resource(service), sample=sample, slow=slow)


def new_id() -> int:
    """The id of a span."""
    return random.getrandbits(64) or 1
