"""What is asked of traces, as Jaeger's query API spells it. Law: a pure function on the parameters and the time.

`service` is asked for; one span of it must be as all the other parameters say, as in Jaeger.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from headrace.traces import written
from headrace.traces.spans import Span, Value

_UNITS: Final = {"ns": 1, "us": 10**3, "µs": 10**3, "ms": 10**6, "s": 10**9, "m": 60 * 10**9, "h": 3600 * 10**9}
_PART: Final = re.compile(r"(\d{1,12}(?:\.\d{1,9})?)(ns|us|µs|ms|s|m|h)")
_LIMIT: Final = 100  # traces; Jaeger's own
MOST: Final = 1500  # traces; as many as Jaeger's page asks for
_FOREVER: Final = 2**64  # nanoseconds


class Unreadable(Exception):  # noqa: N818 - as Malformed
    """The parameters are not Jaeger's; the text is for who asked."""


@dataclass(frozen=True)
class Query:
    """Which traces: times and durations in nanoseconds, no more than `limit`."""

    service: str
    operation: str = ""
    start: int = 0
    end: int = _FOREVER
    shortest: int = 0
    longest: int = _FOREVER
    tags: Mapping[str, str] = field(default_factory=dict)
    limit: int = _LIMIT

    def wants(self, span: Span) -> bool:
        """Whether the span makes its trace one that is asked for."""
        return (
            span.service == self.service
            and self.operation in ("", span.name)
            and self.start <= span.start <= self.end
            and self.shortest <= span.end - span.start <= self.longest
            and all(_has(span, key, value) for key, value in self.tags.items())
        )


def read(parameters: Sequence[tuple[str, str]], now: int) -> Query:
    """The query; `now` in nanoseconds since the epoch. Raises Unreadable."""
    one = dict(parameters)  # the last of a name counts; names that we do not know are Jaeger's page's own
    if not one.get("service"):
        raise Unreadable("parameter 'service' is required")
    tags: dict[str, str] = {}
    for key, value in parameters:
        tags |= _simple(value) if key == "tag" else _tags(value) if key == "tags" else {}
    end = _microseconds(one, "end", now)
    return Query(
        one["service"],
        one.get("operation", ""),
        _microseconds(one, "start", 0) if one.get("start") else max(0, end - _duration(one, "lookback", end)),
        end,
        _duration(one, "minDuration", 0),
        _duration(one, "maxDuration", _FOREVER),
        tags,
        max(0, min(MOST, _integer(one, "limit", _LIMIT))),
    )


def chosen(traces: Sequence[Sequence[Span]], query: Query) -> Sequence[Sequence[Span]]:
    """The traces that are asked for, the latest of them that there may be, in the order given."""
    wanted = [spans for spans in traces if any(map(query.wants, spans))]
    return sorted(wanted, key=lambda spans: min(span.start for span in spans), reverse=True)[: query.limit]


def _has(span: Span, key: str, value: str) -> bool:
    """A tag of the span's, or of an event's."""
    everything = (written.tags(span), *map(written.fields, span.events))
    return any(key in tags and _text(tags[key]) == value for tags in everything)


def _text(value: Value) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _integer(one: Mapping[str, str], name: str, default: int) -> int:
    if not (value := one.get(name)):
        return default
    if not re.fullmatch(r"\d{1,18}", value, re.ASCII):
        raise Unreadable(f"unable to parse param '{name}'")
    return int(value)


def _microseconds(one: Mapping[str, str], name: str, default: int) -> int:
    return _integer(one, name, -1) * 1000 if one.get(name) else default


def _duration(one: Mapping[str, str], name: str, default: int) -> int:
    """Go's way to write one: 1.5s, 1h30m."""
    if not (value := one.get(name)):
        return default
    parts = _PART.findall(value)
    if "".join(number + unit for number, unit in parts) != value:
        raise Unreadable(f"unable to parse param '{name}'")
    return int(sum(float(number) * _UNITS[unit] for number, unit in parts))


def _simple(value: str) -> dict[str, str]:
    key, colon, rest = value.partition(":")
    if not colon:
        raise Unreadable("malformed 'tag' parameter, expecting key:value")
    return {key: rest}


def _tags(value: str) -> dict[str, str]:
    try:
        found = json.loads(value)
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict) or not all(isinstance(each, str) for each in found.values()):
        raise Unreadable("malformed 'tags' parameter, cannot unmarshal JSON")
    return found
