"""What a span says, in words. Law: what a reader asks of a call comes first, in their order; nothing is said twice.

Of a call's spans many say the same: what a span above has said already is left out.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Final

from gateway.phases import Phase
from headrace.printable import printable
from headrace.traces.spans import Event, Span, Value
from headrace.traces.tree import Place
from protos import tracing

_NAMED: Final[Mapping[str, str]] = {
    tracing.MODEL: "model",
    tracing.VERSION_ASKED: "asked for",
    tracing.VERSION_SERVED: "served",
    tracing.LANE: "lane",
    tracing.CALLER: "caller",
    tracing.REASON: "reason",
    tracing.BATCH_SIZE: "batch of",
    tracing.QUEUE_TIME: "queued",
    tracing.COMPUTE_TIME: "computed in",
    tracing.PHASE: "ended in",
}
_TIMES: Final = (tracing.QUEUE_TIME, tracing.COMPUTE_TIME)  # seconds
_OURS: Final = "headrace."
_ELSEWHERE: Final = (tracing.REQUEST_ID,)  # told of the whole trace
_FEW: Final = 8  # events, links
_LITTLE: Final = 5e-6  # seconds: what takes less is not told
_METHOD: Final = re.compile(r"[\w.]+/(\w+)")


def line(text: str) -> str:
    """The text on one line, without what a terminal would obey."""
    return printable(" ".join(text.splitlines())).replace("\t", " ")


def name(span: Span) -> str:
    """What was done; of a gRPC method its own name."""
    method = _METHOD.fullmatch(span.name)
    return line(method[1] if method else span.name)


def status(span: Span) -> str:
    """The gRPC status, or whether it failed."""
    found = span.attributes.get(tracing.RPC_STATUS)
    return line(str(found)) if found else "ERROR" if span.error else ""


def took(nanoseconds: int) -> str:
    """A duration."""
    ms = nanoseconds / 1e6
    return f"{ms:.2f} ms" if ms < 1000 else f"{ms / 1000:.2f} s"


def of_place(places: Sequence[Place], at: int) -> str:
    """What the span there says."""
    place = places[at]
    said = [
        *([f"attempt {place.attempt} of {place.attempts}"] if place.attempts else []),
        *_attributes(place.span.attributes, _above(places, at)),
        *([_events(place.span)] if place.span.events else []),
        *_links(place.span),
        *([f"{place.span.dropped} more that was dropped"] if place.span.dropped else []),
        *([f"its parent {place.span.parent} is not here"] if place.orphan else []),
    ]
    return line(", ".join(said))


def _above(places: Sequence[Place], at: int) -> Mapping[str, Value]:
    """What the spans above say; a few of them, however deep."""
    said: dict[str, Value] = {}
    for _ in range(_FEW):
        if (at := places[at].under) < 0:
            break
        said = {**places[at].span.attributes, **said}
    return said


def _attributes(own: Mapping[str, Value], above: Mapping[str, Value]) -> Sequence[str]:
    others = {
        key: key.removeprefix(_OURS).replace(".", " ")
        for key in sorted(own)
        if key.startswith(_OURS) and key not in _NAMED and key not in _ELSEWHERE and not key.startswith(tracing.PHASES)
    }
    named = {**_NAMED, **others}
    return [
        f"{words} {_value(key, own[key])}"
        for key, words in named.items()
        if own.get(key, "") != "" and own[key] != above.get(key) and (key, own[key]) != (tracing.BATCH_SIZE, 1)
    ] + _phases(own)


def _phases(own: Mapping[str, Value]) -> list[str]:
    """Where the time went, in the order of the call."""
    spent = [
        f"{phase.word} {_ms(value)}"
        for phase in Phase
        if isinstance(value := own.get(tracing.PHASES + phase.word), int | float) and value >= _LITTLE
    ]
    return [" · ".join(spent)] if spent else []


def _value(key: str, value: Value) -> str:
    return _ms(value) if key in _TIMES and isinstance(value, int | float) else str(value)


def _ms(seconds: float) -> str:
    return f"{seconds * 1000:.2f} ms"


def _events(span: Span) -> str:
    def said(event: Event) -> str:
        return f"{event.name} +{took(event.time - span.start)}"

    return "events: " + "; ".join([*map(said, span.events[:_FEW]), *_more(len(span.events))])


def _links(span: Span) -> Sequence[str]:
    """The other traces that it has to do with."""
    traces = [trace for trace in dict.fromkeys(link.trace for link in span.links) if trace != span.trace]
    if not traces:
        return []
    return ["linked to " + "; ".join([*(f"trace {trace}" for trace in traces[:_FEW]), *_more(len(traces))])]


def _more(number: int) -> Sequence[str]:
    return [f"{number - _FEW} more"] if number > _FEW else []
