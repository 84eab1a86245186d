"""What several dashboards ask. Law: rates are over Grafana's own window; what a viewer chose is in each query."""

from __future__ import annotations

from typing import Final

from headrace.observability import series
from headrace.observability.panels import Query, Variable, matching

WINDOW: Final = "$__rate_interval"
MODEL: Final = Variable("model", "Model", series.CALLS, series.MODEL)
GRANT: Final = Variable("grant", "Grant", series.CALLS, series.GRANT)
VERSION: Final = Variable("version", "Version", series.CALLS, series.VERSION)
INSTANCE: Final = Variable("instance", "Gateway", series.READY, "instance")


def per_second(name: str, labels: tuple[str, ...], *matchers: str) -> str:
    """The rate of a counter, by labels."""
    return f"sum {series.by(*labels)} ({series.rate(name, WINDOW, *matchers)})"


def summed(name: str, labels: tuple[str, ...], *matchers: str) -> str:
    """A gauge, by labels."""
    return f"sum {series.by(*labels)} ({series.where(name, *matchers)})"


def success(labels: tuple[str, ...], *matchers: str) -> str:
    """Answered calls, of those that were answered or failed by our fault."""
    good = per_second(series.CALLS, labels, series.ANSWERED, *matchers)
    bad = " or ".join(series.rate(series.CALLS, WINDOW, *matchers, failed) for failed in series.FAILED)
    return (
        f"{good} / sum {series.by(*labels)} ({series.rate(series.CALLS, WINDOW, series.ANSWERED, *matchers)} or {bad})"
    )


def percentiles(
    legend: str, histogram: str, labels: tuple[str, ...], *matchers: str, exemplars: bool = True
) -> list[Query]:
    """The median and the 99th percentile; with `exemplars`, there are links to traces."""
    return [
        Query(series.quantile(share, histogram, WINDOW, labels, *matchers), f"{legend} {name}".strip(), exemplars)
        for share, name in ((0.5, "p50"), (0.99, "p99"))
    ]


def legend(*labels: str) -> str:
    """The values of labels."""
    return " ".join(f"{{{{{label}}}}}" for label in labels)


def chosen(*variables: Variable) -> tuple[str, ...]:
    """The matchers of what the viewer chose."""
    return tuple(matching(variable) for variable in variables)
