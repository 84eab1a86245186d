"""A trace in a line. Law: the first span that says something says it for the trace."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from headrace.traces import told
from headrace.traces.spans import Span
from headrace.traces.tree import tree
from protos import tracing


@dataclass(frozen=True)
class Summary:
    """A trace: `began` in nanoseconds since the epoch, `duration` in nanoseconds, `services` as they come in.

    `status` is the first gRPC status: what the caller got. `errors`: how many spans failed.
    """

    trace: str
    began: int
    duration: int
    name: str
    services: tuple[str, ...]
    model: str
    status: str
    errors: int
    spans: int
    requests: tuple[str, ...]


def summary(spans: Sequence[Span]) -> Summary:
    """Of at least one span."""
    ordered = [place.span for place in tree(spans)]
    began = min(span.start for span in spans)
    return Summary(
        spans[0].trace,
        began,
        max(span.end for span in spans) - began,
        told.name(ordered[0]),
        tuple(dict.fromkeys(told.line(span.service) for span in ordered)),
        next(iter(_said(ordered, tracing.MODEL)), ""),
        next(iter(_said(ordered, tracing.RPC_STATUS)), told.status(ordered[0])),
        sum(span.error for span in spans),
        len(spans),
        tuple(dict.fromkeys(_said(ordered, tracing.REQUEST_ID))),
    )


def _said(ordered: Sequence[Span], key: str) -> Sequence[str]:
    return [told.line(str(span.attributes[key])) for span in ordered if span.attributes.get(key)]
