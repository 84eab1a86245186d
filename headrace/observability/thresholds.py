"""When an alert fires. Law: every number that an alert, a rule or a dashboard compares with is here.

Objectives (the share of calls that are answered, and how fast) are a user's to choose, for each model: they are series
of their own (`rules.objectives`), so that they can be changed without making the rules anew.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

DAY: Final = 86_400  # seconds


@dataclass(frozen=True)
class Burn:
    """Two windows (Prometheus durations) over which errors use up the budget `factor` times as fast as it lasts.

    The SRE Workbook's (https://sre.google/workbook/alerting-on-slos/): the long one says that it matters, the short one
    that it still goes on.
    """

    short: str
    long: str
    factor: float


@dataclass(frozen=True)
class Timing:
    """How often is looked, and how long what is wrong must last (Prometheus durations)."""

    interval: str = "15s"
    """Between scrapes, and between evaluations of rules."""
    rate: str = "5m"
    """Over which rates and quantiles are taken."""
    fast: Burn = Burn("5m", "1h", 14.4)
    """2 % of 30 days' budget in an hour."""
    slow: Burn = Burn("30m", "6h", 6.0)
    """5 % of 30 days' budget in six hours."""
    soon: str = "1m"
    """Before somebody is woken."""
    late: str = "10m"
    """Before somebody is told for tomorrow."""

    @property
    def windows(self) -> list[str]:
        """Each window of the budget once, the shortest first."""
        return list(dict.fromkeys([self.fast.short, self.slow.short, self.fast.long, self.slow.long]))


@dataclass(frozen=True)
class Thresholds:
    """What is too much, or too little."""

    least: float = 0.02
    """Calls per second of a model over a long window, below which one failure says nothing."""
    queue: float = 16.0
    """Requests that wait for a model's version in one worker, all the time."""
    unready: float = 0.5
    """Share of a model's calls that find no copy ready, when somebody is woken."""
    left: float = 0.1
    """Share of a model's calls whose callers do not wait for the answer."""
    shed: float = 0.01
    """Share of a model's calls that are refused because it has all it can bear."""
    certificate: int = 7 * DAY
    """Seconds before a certificate ends."""
    certificate_now: int = DAY
    """The same, when somebody is woken."""
    keys: int = 3_600
    """Seconds since an issuer's keys were last fetched well; they are asked for every five minutes."""


@dataclass(frozen=True)
class Objective:
    """What a model promises: the share of calls that are answered, and seconds within which 99 % of answers come."""

    availability: float = 0.999
    latency: float = 1.0


@dataclass(frozen=True)
class Objectives:
    """Of each model by name, and of those that are not named."""

    default: Objective = Objective()
    models: dict[str, Objective] = field(default_factory=dict)
