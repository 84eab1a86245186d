"""For those who call. Law: it tells whether it is them, the model, or time."""

from __future__ import annotations

from headrace.observability import series
from headrace.observability.dashboards.asked import GRANT, MODEL, chosen, legend, per_second, percentiles, success
from headrace.observability.panels import Dashboard, Panel, Query, Row
from headrace.observability.series import (
    ANSWERED,
    CALLS,
    DIRECTION,
    DURATION,
    OF_GATEWAY,
    REASON,
    STATUS,
    UNARY,
    VERSION,
)


def callers() -> Dashboard:
    """By grant and model."""
    mine, of_model = chosen(GRANT, MODEL), chosen(MODEL)
    asked, granted = (series.MODEL, series.ASKED), (series.GRANT,)
    calls = [
        Panel(
            "Calls",
            "By the status that callers got.",
            "reqps",
            [Query(per_second(CALLS, (STATUS,), *mine), legend(STATUS))],
            stacked=True,
        ),
        Panel(
            "Success",
            "Calls that were answered, of all that were no mistake of the caller's.",
            "percentunit",
            [Query(success((series.MODEL,), *mine), legend(series.MODEL))],
            most=1.0,
        ),
        Panel(
            "Refusals",
            "By reason: what each means, and what to do, is in the README.",
            "reqps",
            [Query(per_second(CALLS, (REASON,), *mine, f'{REASON}!=""'), legend(REASON))],
            stacked=True,
        ),
    ]
    times = [
        Panel(
            "Time of a call",
            "ModelInfer that was answered, from the gateway's first byte to its last. A point is a call with a trace.",
            "s",
            percentiles(legend(series.MODEL), DURATION, (series.MODEL,), OF_GATEWAY, UNARY, ANSWERED, *of_model),
            wide=12,
        ),
        Panel(
            "Messages of streams",
            "Into and out of ModelStreamInfer.",
            "cps",
            [Query(per_second(series.MESSAGES, (series.MODEL, DIRECTION), *of_model), legend(series.MODEL, DIRECTION))],
            wide=12,
        ),
    ]
    asks = [
        Panel(
            "Versions asked for",
            "As callers name them: a version, an alias, or nothing.",
            "reqps",
            [Query(per_second(CALLS, asked, *mine), legend(*asked))],
        ),
        Panel(
            "Versions that answered",
            "Of calls that name none, by weight.",
            "reqps",
            [Query(per_second(CALLS, (series.MODEL, VERSION), *mine, ANSWERED), legend(series.MODEL, VERSION))],
            stacked=True,
        ),
        Panel(
            "Who calls",
            "By the grant that let them.",
            "reqps",
            [Query(per_second(CALLS, granted, *mine), legend(*granted))],
            stacked=True,
        ),
    ]
    rows = [Row("What callers get", calls), Row("How long it takes", times), Row("What is asked for", asks)]
    words = "For those who call models: what they get, how fast, and why not."
    return Dashboard("headrace-callers", "headrace: callers", words, [GRANT, MODEL], rows)
