"""What the Envoy in front counts, and how that is read. Law: it counts what Python cannot: carried and lost calls.

It costs Python nothing. A call is counted once, as one measure of its duration under its tags: how many there were is
how many were measured. Tags are what the lane's script has said of a call, never a caller; and as Envoy forgets none,
the script has only so many kinds of calls counted apart. Sources:
https://www.envoyproxy.io/docs/envoy/latest/api-v3/extensions/access_loggers/stats/v3/stats.proto and
https://www.envoyproxy.io/docs/envoy/latest/operations/admin#get--stats
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

from mesh.envoy.proto import Json, named
from mesh.express.commands import first_of
from mesh.express.lines import (
    CARRIED,
    HAS_ID,
    NO_ID,
    NOT_OK,
    OK,
    UNANSWERED,
    UNSEEN,
    method_of,
    not_carried,
    only,
    status,
)
from mesh.express.traced import TO_KEY
from protos.metrics.instruments import OTHER

STATISTICS: Final[Json] = {"stats_flush_on_admin": True}
"""Fields of a bootstrap: what was measured is put together when someone looks."""
MEASURED: Final = "^headrace\\."
"""The filter of `/stats` by which what is counted here is found."""
GONE: Final = "GONE"
"""A status: the caller has gone. Of its call no whole duration is known but in milliseconds."""

_STATS: Final = "envoy.extensions.access_loggers.stats.v3.Config"
_TAG: Final = "of"
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
    cluster = first_of(("REQ", TO_KEY), ("UPSTREAM_CLUSTER", ""))  # which is the hop of those that are traced
    told = [f"%REQ({key})%" for key in (counts.model, counts.version, counts.grant)]
    names, nameless = [*told, cluster], [OTHER] * (len(told) + 1)
    sent = _histogram(Sent, told[:1], _SENT)
    lost: Json = {"or_filter": {"filters": [UNSEEN, UNANSWERED]}}
    ended = status(GONE)
    failed = [NOT_OK, _other(false=True), only(f"xds.route_name == '{CARRIED}'")]
    # Of calls that went well nothing is worked out that they all have in common.
    return [
        _logger([OK, HAS_ID, _other(false=True)], _histogram(Carried, [*names, "OK"], _ENDS), sent),
        _logger(failed, _histogram(Carried, [*names, ended], _ENDS), sent),
        _logger(
            [_other(), HAS_ID], _histogram(Carried, [*nameless, ended], _ENDS), _histogram(Sent, nameless[:1], _SENT)
        ),
        _logger(
            [NO_ID, not_carried(counts.methods), lost], _histogram(Unseen, [method_of(counts.methods), ended], _ENDS)
        ),
    ]


def _other(*, false: bool = False) -> Json:
    """Whether the script has said that the call is not counted apart, or that it has not."""
    matcher = {"filter": "headrace.lane", "path": [{"key": "other"}], "value": {"bool_match": not false}}
    return {"metadata_filter": {"matcher": matcher, "match_if_key_not_found": false}}


def _logger(all_of: Sequence[Json], *histograms: Json) -> Json:
    made = named("envoy.access_loggers.stats", _STATS, stat_prefix="headrace", histograms=histograms)
    return {**made, "filter": {"and_filter": {"filters": all_of}}}


def _histogram(kind: type[Tags], formats: Sequence[str], times: Sequence[str]) -> Json:
    tag = {"name": _TAG, "value_format": " ".join(formats)}  # each tag more would cost as much again
    value = first_of(*(("COMMON_DURATION", time) for time in times), ("DURATION", ""))
    return {"stat": {"name": kind.__name__, "tags": [tag]}, "unit": "Microseconds", "value_format": value}


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
    for kind in (Carried, Unseen, Sent):
        beginning = f"headrace.{kind.__name__}.{_TAG}."
        if name.startswith(beginning):
            said = name.removeprefix(beginning).split(" ")  # in none of them there is a blank
            return kind(*said) if len(said) == len(kind._fields) else None
    return None
