"""The latest traces, in memory. Law: they weigh no more than was said; the oldest trace goes first, and as a whole.

A trace is as old as its first span that came. One that grows over a quarter of the store takes no more spans.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

from headrace.traces.spans import Span, Value

ROOM: Final = 64 * 1024 * 1024  # bytes
_SPAN, _ITEM = 900, 250  # bytes that a span, and each attribute, event and link, take beside their texts


class Store:
    """Traces by id; `dropped` counts the spans that had no room in their own trace."""

    def __init__(self, room: int = ROOM) -> None:
        self.dropped = 0
        self._room = room
        self._weight = 0
        self._traces: dict[str, _Trace] = {}

    def add(self, spans: Iterable[Span]) -> None:
        """Keep them; one that is sent again replaces itself."""
        for span in spans:
            trace = self._traces.setdefault(span.trace, _Trace())
            before = trace.weight
            if not trace.add(span, self._room // 4):
                self.dropped += 1
            self._weight += trace.weight - before
            while self._weight > self._room:
                self._weight -= self._traces.pop(next(iter(self._traces))).weight

    def trace(self, trace_id: str) -> Sequence[Span]:
        """Its spans; empty where there is none."""
        trace = self._traces.get(trace_id)
        return tuple(trace.spans.values()) if trace else ()

    def traces(self) -> Sequence[Sequence[Span]]:
        """All of them, the latest first."""
        return [tuple(trace.spans.values()) for trace in reversed(self._traces.values())]

    def services(self) -> Sequence[str]:
        """Whose spans there are, by name."""
        return sorted({name for trace in self._traces.values() for name in trace.services})


class _Trace:
    __slots__ = ("services", "spans", "weight")

    def __init__(self) -> None:
        self.spans: dict[tuple[str, ...], Span] = {}
        self.services: set[str] = set()
        self.weight = 0

    def add(self, span: Span, room: int) -> bool:
        """Whether there was room."""
        key = (span.id, span.service, span.kind)
        weight = weight_of(span) - (weight_of(self.spans[key]) if key in self.spans else 0)
        if self.weight + weight > room:
            return False
        self.weight += weight
        self.spans[key] = span
        self.services.add(span.service)
        return True


def weight_of(span: Span) -> int:
    """Bytes that it takes in memory, about, and rather more than less."""
    events = sum(_ITEM + _text(event.name) + _attributes(event.attributes.items()) for event in span.events)
    texts = sum(map(_text, (span.service, span.name, span.description)))
    return _SPAN + texts + _attributes(span.attributes.items()) + events + _ITEM * len(span.links)


def _attributes(items: Iterable[tuple[str, Value]]) -> int:
    return sum(_ITEM + _text(key) + (_text(value) if isinstance(value, str) else 0) for key, value in items)


def _text(text: str) -> int:
    """Python keeps up to four bytes for a character."""
    return len(text) if text.isascii() else 4 * len(text)
