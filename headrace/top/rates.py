"""What has happened between two looks. Law: pure functions on frozen values.

A gateway that was started anew between them has counted from nothing.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TypeVar

from headrace.top.read import OK, Admission, Buckets, Call, Copies, Look, Version
from protos.contract import EXPRESS_LANE
from protos.dropped import Signal

_P50, _P99 = 0.5, 0.99
Key = TypeVar("Key")


@dataclass(frozen=True, slots=True)
class Behind:
    """What an Envoy before a version's copies has seen, of all calls to it, by whichever way they came.

    Calls a second, and those that failed, by status; `p50` and `p99` seconds of single tries; copies, ejected ones,
    calls a second over its breakers, and those now open.
    """

    rate: float
    failed: Mapping[str, float]
    p50: float | None
    p99: float | None
    copies: int
    ejected: int
    over: float
    open: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Row:
    """A version of a model; without one, calls that came to none.

    `rate` is calls a second; `share` its part of its model's calls that came to a version, `ok` the part of its own
    that went well, `express` the part of all its model's that the express lane carried (0 to 1); `p50` and `p99`
    seconds, the last bound where they are over it; `failed` calls a second by status. None: no calls, or not known.
    """

    model: str
    version: str
    rate: float
    ok: float | None
    p50: float | None
    p99: float | None
    failed: Mapping[str, float]
    copies: float | None
    ready: float | None
    ejected: int = 0
    over: float = 0.0
    open: tuple[str, ...] = ()
    share: float | None = None
    express: float | None = None


@dataclass(frozen=True, slots=True)
class View:
    """All of it, of so many seconds.

    `active` are calls under way by lane, none where not all models are wanted; `refused` are calls a second by reason,
    `lost` what was dropped, by signal; `silent` who tells nothing.
    """

    seconds: float
    rate: float
    ok: float | None
    p50: float | None
    p99: float | None
    active: Mapping[str, float]
    rows: Sequence[Row]
    refused: Mapping[str, float]
    admission: Mapping[str, Admission]
    lost: Mapping[str, float] = field(default_factory=dict)
    silent: Sequence[str] = ()
    ready: bool = True
    config_refused: bool = False
    audit_failing: bool = False


def view(
    before: Look, after: Look, behind: Mapping[Version, Behind], wanted: Callable[[str], bool] | None = None
) -> View:
    """What has happened; of the models that are `wanted`, or of all, and then also of calls that came to no model."""
    seconds = max(after.at - before.at, 1e-9)

    def chosen(model: str) -> bool:
        return wanted is None or wanted(model)

    calls = {call: more for call, more in _since(before.calls, after.calls).items() if chosen(call.model)}
    times = {
        version: _since(before.times.get(version, {}), buckets)
        for version, buckets in after.times.items()
        if chosen(version[0])
    }
    total = sum(calls.values())
    refused = _by(calls, lambda call: call.reason)
    return View(
        seconds,
        rate=total / seconds,
        ok=_part(_by(calls, lambda call: call.status).get(OK, 0.0), total),
        p50=quantile(_together(times.values()), _P50),
        p99=quantile(_together(times.values()), _P99),
        active={} if wanted else after.active,
        rows=_rows(calls, times, after, behind, seconds),
        refused=_largest({reason: more / seconds for reason, more in refused.items() if reason and more}),
        admission={model: one for model, one in after.admission.items() if chosen(model)},
        lost={
            signal: more / seconds
            for signal, more in _since(before.dropped, after.dropped).items()
            if more and signal != Signal.SPANS_OVER_LIMIT
        },
        ready=after.ready,
        config_refused=after.config_refused,
        audit_failing=after.audit_failing,
    )


def _rows(
    calls: Mapping[Call, float],
    times: Mapping[Version, Buckets],
    after: Look,
    behind: Mapping[Version, Behind],
    seconds: float,
) -> tuple[Row, ...]:
    """The busiest model first, its versions by number; calls that came to no version last, where there were any.

    Of a mesh's versions its Envoys tell: which of them a call came to the gateway often does not know.
    """
    known, models = {model for model, _ in behind}, _by(calls, lambda call: call.model)
    found = [_behind(one, told) for one, told in behind.items() if one[0] in models]
    for one, own in _of_versions(calls).items():
        if one not in behind:
            refused = {call: more for call, more in own.items() if call.reason or one[0] not in known}
            found.append(_counted(one, refused, times.get(one, {}), after.copies.get(one), seconds))
    served: dict[str, float] = {}
    for row in found:
        served[row.model] = served.get(row.model, 0.0) + (row.rate if row.version else 0.0)
    carried = _by({call: more for call, more in calls.items() if call.lane == EXPRESS_LANE}, lambda call: call.model)
    whole = (
        replace(
            row,
            share=_part(row.rate, served[row.model]) if row.version else None,
            express=_part(carried.get(row.model, 0.0), models[row.model]),
        )
        for row in found
    )
    order = sorted(whole, key=lambda row: (-models[row.model], row.model, *_numbered(row.version)))
    return tuple(row for row in order if row.version or row.rate)


def _of_versions(calls: Mapping[Call, float]) -> Mapping[Version, Mapping[Call, float]]:
    found: dict[Version, dict[Call, float]] = {}
    for call, more in calls.items():
        if call.model:
            found.setdefault((call.model, call.version), {})[call] = more
    return found


def _counted(one: Version, calls: Mapping[Call, float], times: Buckets, copies: Copies | None, seconds: float) -> Row:
    statuses, total = _by(calls, lambda call: call.status), sum(calls.values())
    return Row(
        *one,
        rate=total / seconds,
        ok=_part(statuses.get(OK, 0.0), total),
        p50=quantile(times, _P50),
        p99=quantile(times, _P99),
        failed=_largest({status: more / seconds for status, more in statuses.items() if more and status != OK}),
        copies=copies.there if copies else None,
        ready=copies.ready if copies else None,
    )


def _behind(one: Version, told: Behind) -> Row:
    return Row(
        *one,
        rate=told.rate,
        ok=_part(told.rate - sum(told.failed.values()), told.rate),
        p50=told.p50,
        p99=told.p99,
        failed=told.failed,
        copies=told.copies,
        ready=told.copies - told.ejected,
        ejected=told.ejected,
        over=told.over,
        open=told.open,
    )


def quantile(buckets: Buckets, share: float) -> float | None:
    """The seconds that this share of the calls took at most, as if evenly spread in a bucket; None: no calls.

    What is over the last bound is told as that, as by Prometheus's histogram_quantile.
    """
    left, lower = share * sum(buckets.values()), 0.0
    if not left:
        return None
    for upper, count in sorted(buckets.items()):
        if math.isinf(upper):
            break
        if count and left <= count:
            return lower + (upper - lower) * (left / count)
        left, lower = left - count, upper
    return lower


def _since(before: Mapping[Key, float], after: Mapping[Key, float]) -> Mapping[Key, float]:
    return {key: value - (was if (was := before.get(key, 0.0)) <= value else 0.0) for key, value in after.items()}


def _by(calls: Mapping[Call, float], of: Callable[[Call], str]) -> Mapping[str, float]:
    found: dict[str, float] = {}
    for call, more in calls.items():
        found[of(call)] = found.get(of(call), 0.0) + more
    return found


def _together(several: Iterable[Buckets]) -> Buckets:
    found: dict[float, float] = {}
    for buckets in several:
        for bound, count in buckets.items():
            found[bound] = found.get(bound, 0.0) + count
    return found


def _part(some: float, everything: float) -> float | None:
    return some / everything if everything else None


def _largest(told: Mapping[str, float]) -> Mapping[str, float]:
    return dict(sorted(told.items(), key=lambda one: (-one[1], one[0])))


def _numbered(version: str) -> tuple[bool, int, str]:
    return not version, int(version) if version.isdecimal() else 0, version
