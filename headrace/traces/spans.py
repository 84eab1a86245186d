"""Spans as values. Law: nothing of how they came or go is here.

Named as OpenTelemetry names them (https://opentelemetry.io/docs/specs/otel/trace/api/#span).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

Value = str | int | float | bool


@dataclass(frozen=True)
class Event:
    """What happened within a span; `time` in nanoseconds since the epoch."""

    name: str
    time: int
    attributes: Mapping[str, Value] = field(default_factory=dict)


@dataclass(frozen=True)
class Link:
    """Another span that this one has to do with. Ids in hex."""

    trace: str
    span: str


@dataclass(frozen=True)
class Span:
    """One span. Ids in hex, `parent` empty for a root; `start` and `end` in nanoseconds since the epoch.

    `error`: its status is ERROR, and `description` says why. `dropped`: attributes, events and links that went missing.
    """

    trace: str
    id: str
    parent: str
    service: str
    name: str
    kind: str
    start: int
    end: int
    attributes: Mapping[str, Value] = field(default_factory=dict)
    events: tuple[Event, ...] = ()
    links: tuple[Link, ...] = ()
    error: bool = False
    description: str = ""
    dropped: int = 0
