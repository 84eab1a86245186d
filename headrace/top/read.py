"""What a gateway tells of itself at one moment. Law: frozen values; of its metrics only what is shown is kept.

It is read as Prometheus's protobuf messages, in which a page of a thousand series takes milliseconds.
"""

from __future__ import annotations

import io
import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final, NamedTuple, TypeVar

from google.protobuf import proto
from google.protobuf.message import DecodeError

from gateway.metrics import ACTIVE, AUDIT_FAILING, CALLS, COPIES, COPIES_READY, LIMIT, READY, REFUSED, RUNNING
from protos import tracing
from protos.metrics.described import label
from protos.metrics.shared import DROPPED, DURATION
from protos.prometheus import metrics_pb2 as pb

_MODEL: Final = label(tracing.MODEL)
_VERSION: Final = label(tracing.VERSION_SERVED)
_LANE: Final = label(tracing.LANE)
_STATUS: Final = label(tracing.RPC_STATUS)
_REASON: Final = label(tracing.REASON)
_METHOD: Final = label(tracing.RPC_METHOD)
_SIGNAL: Final = label(tracing.SIGNAL)
_STREAM: Final = "/ModelStreamInfer"  # how long it takes is its caller's affair
OK: Final = "OK"


class Call(NamedTuple):
    """What is told of calls together: empty is what a call did not come to have."""

    model: str
    version: str
    lane: str
    status: str
    reason: str


Version = tuple[str, str]
"""A model, and a version of it."""

Buckets = Mapping[float, float]
"""Upper bound in seconds -> how many were over the bound before it, and not over this."""


@dataclass(frozen=True, slots=True)
class Admission:
    """How many calls a model has, and may have."""

    running: float
    limit: float


@dataclass(frozen=True, slots=True)
class Copies:
    """How many copies there are, and how many of them are well."""

    there: float
    ready: float


@dataclass(frozen=True, slots=True)
class Look:
    """What is told at `at` (monotonic, in seconds); of calls and times all since the gateway's start.

    `times` are of unary calls that went well; `active` is by lane, `dropped` by signal.
    """

    at: float
    calls: Mapping[Call, float] = field(default_factory=dict)
    times: Mapping[Version, Buckets] = field(default_factory=dict)
    active: Mapping[str, float] = field(default_factory=dict)
    admission: Mapping[str, Admission] = field(default_factory=dict)
    copies: Mapping[Version, Copies] = field(default_factory=dict)
    dropped: Mapping[str, float] = field(default_factory=dict)
    ready: bool = True
    config_refused: bool = False
    audit_failing: bool = False


Families = Mapping[str, pb.MetricFamily]
Key = TypeVar("Key")


def look(at: float, page: bytes) -> Look:
    """What the messages say. Raises ValueError: they are no metrics, or not a gateway's."""
    families = {family.name: family for family in _families(page)}
    if READY.exposed not in families:
        raise ValueError("no gateway's metrics")
    return Look(
        at,
        calls=_added(
            (
                Call(*(labels.get(name, "") for name in (_MODEL, _VERSION, _LANE, _STATUS, _REASON))),
                metric.counter.value,
            )
            for labels, metric in _of(families, CALLS.exposed)
        ),
        times=_times(families),
        active={lane: value for (lane,), value in _gauge(families, ACTIVE.exposed, _LANE).items()},
        admission=_admission(families),
        copies=_copies(families),
        dropped=_added(
            (labels.get(_SIGNAL, ""), metric.counter.value) for labels, metric in _of(families, DROPPED.exposed)
        ),
        ready=_flag(families, READY.exposed),
        config_refused=_flag(families, REFUSED.exposed),
        audit_failing=_flag(families, AUDIT_FAILING.exposed),
    )


def _families(page: bytes) -> Iterator[pb.MetricFamily]:
    rest = io.BytesIO(page)
    try:
        while (family := proto.parse_length_prefixed(pb.MetricFamily, rest)) is not None:
            yield family
    except DecodeError as error:
        raise ValueError(str(error)) from None


def _of(families: Families, name: str) -> Iterator[tuple[Mapping[str, str], pb.Metric]]:
    for metric in families[name].metric if name in families else ():
        yield {pair.name: pair.value for pair in metric.label}, metric


def _added(told: Iterable[tuple[Key, float]]) -> Mapping[Key, float]:
    """Of each key all that is told, together. Raises ValueError: it is no number."""
    found: dict[Key, float] = {}
    for key, value in told:
        found[key] = found.get(key, 0.0) + value
        if not math.isfinite(found[key]):
            raise ValueError(f"{found[key]} of {key}")
    return found


def _times(families: Families) -> Mapping[Version, Buckets]:
    found: dict[Version, dict[float, float]] = {}
    for labels, metric in _of(families, DURATION.exposed):
        if labels.get(_STATUS) != OK or labels.get(_METHOD, "").endswith(_STREAM):
            continue
        into, below = found.setdefault((labels.get(_MODEL, ""), labels.get(_VERSION, "")), {}), 0.0
        for bucket in metric.histogram.bucket:
            into[bucket.upper_bound] = into.get(bucket.upper_bound, 0.0) + bucket.cumulative_count - below
            below = bucket.cumulative_count
    return found


def _gauge(families: Families, name: str, *labels: str) -> Mapping[tuple[str, ...], float]:
    return _added(
        (tuple(told.get(one, "") for one in labels), metric.gauge.value) for told, metric in _of(families, name)
    )


def _admission(families: Families) -> Mapping[str, Admission]:
    running, limit = (_gauge(families, one.exposed, _MODEL) for one in (RUNNING, LIMIT))
    return {key[0]: Admission(running.get(key, 0.0), value) for key, value in sorted(limit.items())}


def _copies(families: Families) -> Mapping[Version, Copies]:
    there, ready = (_gauge(families, one.exposed, _MODEL, _VERSION) for one in (COPIES, COPIES_READY))
    return {(key[0], key[1]): Copies(value, ready.get(key, 0.0)) for key, value in there.items()}


def _flag(families: Families, name: str) -> bool:
    return any(metric.gauge.value > 0 for _, metric in _of(families, name))
