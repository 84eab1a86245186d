"""A rule as a value. Law: what it becomes is the form of Prometheus's rule files, and of a PrometheusRule's spec."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Recording:
    """A series that Prometheus works out."""

    name: str
    expression: str
    labels: Mapping[str, str] = field(default_factory=dict)

    def document(self) -> dict[str, object]:
        """As in a rule file."""
        return {"record": self.name, "expr": self.expression} | ({"labels": dict(self.labels)} if self.labels else {})


@dataclass(frozen=True)
class Alert:
    """What somebody is told when its expression has had an answer for as long as `lasting`.

    `severity`: `critical` wakes somebody, `warning` waits for the morning. `summary` and `description` are templates of
    Prometheus's. `keeps`: for how long it stays when its expression has no answer any more.
    """

    name: str
    expression: str
    lasting: str
    severity: str
    summary: str
    description: str
    keeps: str = ""

    def document(self, runbooks: str) -> dict[str, object]:
        """As in a rule file; `runbooks` is the page that has a section for each alert."""
        return {
            "alert": self.name,
            "expr": self.expression,
            "for": self.lasting,
            **({"keep_firing_for": self.keeps} if self.keeps else {}),
            "labels": {"severity": self.severity},
            "annotations": {
                "summary": self.summary,
                "description": self.description,
                "runbook_url": f"{runbooks}#{self.name.lower()}",
            },
        }


def group(name: str, interval: str, rules: Sequence[dict[str, object]]) -> dict[str, object]:
    """Rules that are worked out together, in this order."""
    return {"name": name, "interval": interval, "rules": list(rules)}
