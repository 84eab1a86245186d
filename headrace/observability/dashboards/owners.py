"""For those who own a model. Law: it tells which version keeps what was promised, and where time goes."""

from __future__ import annotations

from headrace.observability import rules, series
from headrace.observability.dashboards.asked import (
    MODEL,
    VERSION,
    WINDOW,
    chosen,
    legend,
    per_second,
    percentiles,
    success,
    summed,
)
from headrace.observability.panels import Dashboard, Panel, Query, Row
from headrace.observability.series import ANSWERED, BATCH_SIZE, CALLS, DURATION, OF_GATEWAY, UNARY
from headrace.observability.thresholds import Timing

_OF = (series.MODEL, series.VERSION)


def owners(timing: Timing) -> Dashboard:
    """By model and version; the budget is worked out by the rules, over windows of `timing`."""
    rows = [
        Row("What callers get", _promised(timing)),
        Row("Versions", _versions()),
        Row("Where time goes", _time()),
        Row("Capacity", _capacity()),
    ]
    words = "For those who own models: promises, versions, time and capacity."
    return Dashboard("headrace-owners", "headrace: model owners", words, [MODEL, VERSION], rows)


def _promised(timing: Timing) -> list[Panel]:
    of_model = chosen(MODEL)
    allowed = f"(1 - {rules.objective(rules.AVAILABILITY)})"
    burns = [
        Query(
            f"{series.where(rules.failed('model', window), *of_model)} / {allowed}",
            f"{legend(series.MODEL)} over {window}",
        )
        for window in (timing.fast.long, timing.slow.long)
    ]
    promised = Query(series.where(rules.objective(rules.LATENCY), *of_model), f"{legend(series.MODEL)} objective")
    took = percentiles(legend(series.MODEL), DURATION, (series.MODEL,), OF_GATEWAY, UNARY, ANSWERED, *of_model)
    return [
        Panel(
            "Calls", "By model.", "reqps", [Query(per_second(CALLS, (series.MODEL,), *of_model), legend(series.MODEL))]
        ),
        Panel("Error budget", "How many times as fast as allowed it is used up; 1 lasts just so long.", "none", burns),
        Panel("Time of a call", "Of ModelInfer, and what is promised of 99 in 100.", "s", [*took, promised]),
    ]


def _versions() -> list[Panel]:
    these = chosen(MODEL, VERSION)
    served = (*these, f'{series.VERSION}!=""')
    rate = per_second(CALLS, _OF, *served)
    share = f"{rate} / on ({series.MODEL}) group_left () {per_second(CALLS, (series.MODEL,), *served)}"
    return [
        Panel("Shares", "Of each model's calls.", "percentunit", [Query(share, legend(*_OF))], stacked=True, most=1.0),
        Panel(
            "Success",
            "Calls that were answered, of all that were no mistake of the caller's.",
            "percentunit",
            [Query(success(_OF, *served), legend(*_OF))],
            most=1.0,
        ),
        Panel(
            "Time of a call",
            "Of ModelInfer. A point is a call with a trace.",
            "s",
            percentiles(legend(*_OF), DURATION, _OF, OF_GATEWAY, UNARY, ANSWERED, *these),
        ),
    ]


def _time() -> list[Panel]:
    these = chosen(MODEL, VERSION)
    parts = {
        "gateway": (series.GATEWAY_DURATION, (series.MODEL,), chosen(MODEL)),
        "queue": (series.QUEUE_DURATION, _OF, these),
        "compute": (series.COMPUTE_DURATION, _OF, these),
    }
    split = [
        Query(series.quantile(0.99, histogram, WINDOW, labels, *matchers), f"{legend(*labels)} {name}")
        for name, (histogram, labels, matchers) in parts.items()
    ]
    size = f"{per_second(f'{BATCH_SIZE}_sum', _OF, *these)} / {per_second(f'{BATCH_SIZE}_count', _OF, *these)}"
    return [
        Panel("Gateway, queue, compute", "The 99th percentile of each part.", "s", split, wide=12),
        Panel("Batches", "Requests computed together, on average.", "none", [Query(size, legend(*_OF))], wide=6),
        Panel(
            "Queue",
            "Requests that wait in workers.",
            "short",
            [Query(summed(series.QUEUE_DEPTH, _OF, *these), legend(*_OF))],
            wide=6,
        ),
    ]


def _capacity() -> list[Panel]:
    these, of_model = chosen(MODEL, VERSION), chosen(MODEL)
    admission = [
        Query(summed(name, (series.MODEL,), *of_model), f"{legend(series.MODEL)} {word}")
        for name, word in ((series.LIMIT, "limit"), (series.RUNNING, "running"))
    ]
    copies = [
        Query(summed(name, _OF, *these), f"{legend(*_OF)} {word}")
        for name, word in ((series.COPIES, "all"), (series.COPIES_READY, "ready"))
    ]
    return [
        Panel("Admission", "Calls that a model with `admission` bears, and has.", "short", admission),
        Panel("Copies", "As the Envoy in front of a gateway in direct mode sees them.", "short", copies),
        Panel(
            "Loaded",
            "Workers that have the version ready.",
            "short",
            [Query(summed(series.MODEL_READY, _OF, *these), legend(*_OF))],
        ),
    ]
