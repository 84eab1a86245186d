"""What Prometheus works out of the gateway's series. Law: a name says level, metric and window.

As https://prometheus.io/docs/practices/rules/ has it. Levels: a model; with its version served; and with the lane, too.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from headrace.observability import series
from headrace.observability.rule import Recording
from headrace.observability.series import FAILED, INFERENCE, LANE, MODEL, VERSION
from headrace.observability.thresholds import Objective, Objectives, Timing

LEVELS: Final = {
    "model": (MODEL,),
    "model_version": (MODEL, VERSION),
    "model_version_lane": (MODEL, VERSION, LANE),
}
AVAILABILITY: Final = "headrace_availability:objective"
LATENCY: Final = "headrace_latency_seconds:objective"


def calls(level: str, window: str) -> str:
    """The name of calls per second."""
    return f"{level}:headrace_calls:rate{window}"


def counted(level: str, window: str) -> str:
    """The name of those per second that the objective is about: answered, or failed by our fault."""
    return f"{level}:headrace_calls_counted:rate{window}"


def failed(level: str, window: str) -> str:
    """The name of the failed ones' share of these."""
    return f"{level}:headrace_calls_failed:ratio_rate{window}"


def success(level: str, window: str) -> str:
    """The name of the answered ones' share of these."""
    return f"{level}:headrace_calls_success:ratio_rate{window}"


def share(window: str) -> str:
    """The name of a version's share of its model's calls."""
    return f"model_version:headrace_calls:share_rate{window}"


def duration(level: str, percent: int, window: str) -> str:
    """The name of a percentile of the time that an answered ModelInfer took, in seconds."""
    return f"{level}:{series.DURATION}:p{percent}_rate{window}"


def objective(of: str) -> str:
    """The name of what is promised of each model: `AVAILABILITY`, or `LATENCY`."""
    return f"model:{of}"


def objectives(wanted: Objectives) -> Iterator[Recording]:
    """What is promised, as series: without a model for those that are not named."""
    yield from _promised(wanted.default, {})
    for model, promised in wanted.models.items():
        yield from _promised(promised, {MODEL: model})


def _promised(promised: Objective, labels: dict[str, str]) -> Iterator[Recording]:
    yield Recording(AVAILABILITY, f"vector({promised.availability:g})", labels)
    yield Recording(LATENCY, f"vector({promised.latency:g})", labels)


def traffic(timing: Timing) -> Iterator[Recording]:
    """Calls, successes and durations, at each level; shares of versions."""
    window = timing.rate
    for level, labels in LEVELS.items():
        yield Recording(calls(level, window), f"sum {series.by(*labels)} ({_rate(window, INFERENCE)})")
        yield from _budget(level, labels, window)
        yield Recording(success(level, window), f"1 - {failed(level, window)}")
        for percent in (50, 99):
            yield Recording(duration(level, percent, window), _quantile(percent, window, labels))
    known = series.where(calls("model_version", window), f'{MODEL}!=""', f'{VERSION}!=""')
    total = f"sum {series.by(MODEL)} ({known})"
    yield Recording(share(window), f"{known} / on ({MODEL}) group_left () ({total} > 0)")


def budgets(timing: Timing) -> Iterator[Recording]:
    """What fails, over each window of the error budget; and what each model that is called has promised."""
    for window in timing.windows:
        if window != timing.rate:
            yield from _budget("model", (MODEL,), window)
    called = f"group {series.by(MODEL)} ({counted('model', timing.slow.long)})"
    for of in (AVAILABILITY, LATENCY):
        named, rest = series.where(of, f'{MODEL}!=""'), series.where(of, f'{MODEL}=""')
        yield Recording(objective(of), f"{named} or on ({MODEL}) ({called} * on () group_left () {rest})")


def _budget(level: str, labels: tuple[str, ...], window: str) -> Iterator[Recording]:
    clause = series.by(*labels)
    bad = " or ".join(_rate(window, INFERENCE, matcher) for matcher in FAILED)
    all_of = counted(level, window)
    yield Recording(all_of, f"sum {clause} ({_rate(window, INFERENCE, series.ANSWERED)} or {bad})")
    yield Recording(failed(level, window), f"(sum {clause} ({bad}) or 0 * {all_of}) / ({all_of} > 0)")


def _rate(window: str, *matchers: str) -> str:
    return series.rate(series.CALLS, window, *matchers)


def _quantile(percent: int, window: str, labels: tuple[str, ...]) -> str:
    matchers = (series.OF_GATEWAY, series.UNARY, series.ANSWERED)
    return series.quantile(percent / 100, series.DURATION, window, labels, *matchers)
