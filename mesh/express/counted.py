"""What the Envoy in front counts, and how that is read. Law: it counts what Python cannot: carried and lost calls.

It costs Python nothing. A call is counted once, as one measure of its duration under its tags: how many there were is
how many were measured. Tags are what the lane's script has said of a call, never a caller. Sources:
https://www.envoyproxy.io/docs/envoy/latest/api-v3/extensions/access_loggers/stats/v3/stats.proto and
https://www.envoyproxy.io/docs/envoy/latest/operations/admin#get--stats
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

from mesh.envoy.proto import Json, named
from mesh.express.access_log import CARRIED, LEFT, NO_ID, NOT_THERE, literal, only
from mesh.express.traced import TO_KEY
from protos import tracing

STATISTICS: Final[Json] = {"stats_flush_on_admin": True}
"""Fields of a bootstrap: what was measured is put together when someone looks."""
MEASURED: Final = "^headrace\\."
"""The filter of `/stats` by which what is counted here is found."""
GONE: Final = "GONE"
"""A status: the caller has gone. Of its call no whole duration is known but in milliseconds."""

_STATS: Final = "envoy.extensions.access_loggers.stats.v3.Config"
_OK: Final[Json] = {"grpc_status_filter": {"statuses": ["OK"]}}
_NOT_OK: Final[Json] = {"grpc_status_filter": {"statuses": ["OK"], "exclude": True}}
_HAS_ID: Final[Json] = {"header_filter": {"header": {"name": tracing.REQUEST_ID_KEY, "present_match": True}}}
"""Of calls that go well nobody but the script gives it to one; what callers say is in those that Envoy turns away."""
_ENDS: Final = ("DS_RX_BEG:DS_TX_END:us", "DS_RX_BEG:US_RX_END:us")
_SENT: Final = ("DS_RX_BEG:US_TX_BEG:us", "DS_RX_BEG:DS_TX_END:us", "DS_RX_BEG:DS_RX_END:us")


@dataclass(frozen=True)
class Counts:
    """What is counted of calls, by what of the worker's metadata: the keys of these; and paths -> names of methods."""

    model: str
    version: str
    grant: str
    methods: Mapping[str, str]


class Bin(NamedTuple):
    """So many were from `low` on and less than `width` more, in microseconds."""

    low: float
    width: float
    number: int


class Carried(NamedTuple):
    """Calls that were carried; `cluster` is where they went, and `status` gRPC's name for how they ended, or GONE."""

    model: str
    version: str
    grant: str
    cluster: str
    status: str


class Unseen(NamedTuple):
    """Calls that Python has not answered, and that were not carried."""

    method: str
    status: str


class Sent(NamedTuple):
    """Carried calls, by how long it took until they were sent on, or ended without."""

    model: str


Tags = Carried | Unseen | Sent


def loggers(counts: Counts | None) -> list[Json]:
    """envoy.config.accesslog.v3.AccessLog, of each kind of call."""
    if counts is None:
        return []
    cluster = _first(("REQ", TO_KEY), ("UPSTREAM_CLUSTER", ""))  # which is the hop of those that are traced
    told = [f"%REQ({key})%" for key in (counts.model, counts.version, counts.grant)]
    sent = _histogram(Sent, told[:1], _SENT)
    others = only(f"xds.route_name != '{CARRIED}' && request.path in {literal(list(counts.methods))}")
    unanswered = [only("upstream.request_attempt_count == 0"), {"response_flag_filter": {"flags": NOT_THERE}}]
    method = f"%CEL({literal(counts.methods)}[request.path])%"
    status = _first(
        ("CEL", f"{literal(dict.fromkeys(LEFT, GONE))}[response.code_details]"), ("GRPC_STATUS", "SNAKE_STRING")
    )
    # Of calls that went well nothing is worked out that they all have in common.
    return [
        _logger([_OK, _HAS_ID], _histogram(Carried, [*told, cluster, "OK"], _ENDS), sent),
        _logger(
            [_NOT_OK, only(f"xds.route_name == '{CARRIED}'")],
            _histogram(Carried, [*told, cluster, status], _ENDS),
            sent,
        ),
        _logger([NO_ID, others, {"or_filter": {"filters": unanswered}}], _histogram(Unseen, [method, status], _ENDS)),
    ]


def _logger(all_of: Sequence[Json], *histograms: Json) -> Json:
    made = named("envoy.access_loggers.stats", _STATS, stat_prefix="headrace", histograms=histograms)
    return {**made, "filter": {"and_filter": {"filters": all_of}}}


def _histogram(kind: type[Tags], formats: Sequence[str], times: Sequence[str]) -> Json:
    tags = [{"name": f" {name} ", "value_format": each} for name, each in zip(kind._fields, formats, strict=True)]
    value = _first(*(("COMMON_DURATION", time) for time in times), ("DURATION", ""))
    return {"stat": {"name": kind.__name__, "tags": tags}, "unit": "Microseconds", "value_format": value}


def _first(*commands: tuple[str, str]) -> str:
    """The first of the commands that gives anything."""
    operators = [{"command": command, **({"param": param} if param else {})} for command, param in commands]
    return f"%COALESCE({json.dumps({'operators': operators})})%"


def read(page: str) -> Iterator[tuple[Tags, Sequence[Bin]]]:
    """What `/stats?format=json&histogram_buckets=detailed` says of each. Raises ValueError: it is no such page."""
    try:
        found = [stat["histograms"]["details"] for stat in json.loads(page)["stats"] if "histograms" in stat]
        for detail in (detail for details in found for detail in details):
            tags = _tags(detail["name"])
            if tags is not None:
                yield tags, [Bin(one["lower_bound"], one["width"], one["count"]) for one in detail["totals"]]
    except (KeyError, TypeError) as error:
        raise ValueError(f"no page of statistics: {error!r}") from None


def numbers(page: str) -> Mapping[str, float]:
    """The counters and gauges on the same page, by their names."""
    return {
        stat["name"]: float(stat["value"]) for stat in json.loads(page)["stats"] if isinstance(stat.get("value"), int)
    }


def _tags(name: str) -> Tags | None:
    for kind, form in _FORMS.items():
        if (match := form.fullmatch(name)) is not None:
            return kind(*match.groups())
    return None


def _form(kind: type[Tags]) -> re.Pattern[str]:
    """A name with its tags in it. In no value there is a blank, so where one begins is certain."""
    return re.compile(rf"headrace\.{kind.__name__}" + "".join(rf"\. {name} \.(\S*)" for name in kind._fields))


_FORMS: Final = {kind: _form(kind) for kind in (Carried, Unseen, Sent)}
