"""What Prometheus and Alertmanager are told. Law: their own forms, as dictionaries."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from headrace.observability import rules, series
from headrace.observability.alerts import alerts
from headrace.observability.rule import group
from headrace.observability.series import MODEL
from headrace.observability.thresholds import Objectives, Thresholds, Timing

RULES: Final = ("objectives.yml", "rules.yml", "alerts.yml")
RUNBOOKS: Final = "docs/alerts.md"
"""The page with a section for each alert, from the top of the repository."""
Document = dict[str, object]


@dataclass(frozen=True)
class Targets:
    """Where metrics are, each HOST:PORT: gateways' admin pages, workers' `--metrics`, sidecars' admin pages."""

    gateways: Sequence[str] = ("127.0.0.1:9090",)
    workers: Sequence[str] = ("127.0.0.1:9101",)
    sidecars: Sequence[str] = ()
    alertmanager: str = "127.0.0.1:9093"


@dataclass(frozen=True)
class Receivers:
    """URLs that Alertmanager posts to: of what wakes somebody, and of what waits."""

    critical: str = "http://127.0.0.1:9095/critical"
    warning: str = "http://127.0.0.1:9095/warning"


def objectives(wanted: Objectives, timing: Timing) -> Document:
    """A file of rules: what is promised."""
    return {"groups": [group("headrace-objectives", timing.interval, [r.document() for r in rules.objectives(wanted)])]}


def recordings(timing: Timing) -> Document:
    """A file of rules: what is worked out."""
    groups = {"headrace-traffic": rules.traffic(timing), "headrace-budgets": rules.budgets(timing)}
    return {"groups": [group(name, timing.interval, [r.document() for r in made]) for name, made in groups.items()]}


def alerting(timing: Timing, limits: Thresholds, runbooks: str = RUNBOOKS) -> Document:
    """A file of rules: what somebody is told of."""
    made = [alert.document(runbooks) for alert in alerts(timing, limits)]
    return {"groups": [group("headrace-alerts", timing.interval, made)]}


def prometheus(targets: Targets, timing: Timing) -> Document:
    """prometheus.yml."""
    jobs = [
        _job(series.GATEWAY_JOB, targets.gateways, "/metrics"),
        _job(series.WORKER_JOB, targets.workers, "/metrics"),
        _job(series.MESH_JOB, targets.sidecars, "/stats/prometheus"),
    ]
    managers = {"static_configs": [{"targets": [targets.alertmanager]}]}
    return {
        "global": {
            "scrape_interval": timing.interval,
            "scrape_timeout": timing.interval,
            "evaluation_interval": timing.interval,
        },
        "rule_files": list(RULES),
        "alerting": {"alertmanagers": [managers]},
        "scrape_configs": [job for job in jobs if job["static_configs"]],
    }


def _job(name: str, targets: Sequence[str], path: str) -> Document:
    static = [{"targets": list(targets)}] if targets else []
    return {"job_name": name, "metrics_path": path, "static_configs": static}


def alertmanager(receivers: Receivers, wait: str = "30s", again: str = "5m", repeat: str = "4h") -> Document:
    """alertmanager.yml; `wait` for others of a group, `again` for what joins it, `repeat` while nothing changes."""
    return {
        "route": {
            "receiver": "warning",
            "group_by": ["alertname", MODEL],
            "group_wait": wait,
            "group_interval": again,
            "repeat_interval": repeat,
            "routes": [{"matchers": ['severity="critical"'], "receiver": "critical"}],
        },
        "receivers": [_receiver("critical", receivers.critical), _receiver("warning", receivers.warning)],
        "inhibit_rules": [
            _inhibits(
                ["HeadraceNoReadyCopy"], ["HeadraceModelNotReady", "HeadraceErrorBudgetBurns(Fast|Slowly)"], MODEL
            ),
            _inhibits(
                ["HeadraceModelNotReady", "HeadraceErrorBudgetBurnsFast"], ["HeadraceErrorBudgetBurnsSlowly"], MODEL
            ),
            _inhibits(
                ["HeadraceCertificateExpiresNow"], ["HeadraceCertificateExpiring"], series.CERTIFICATE, "instance"
            ),
            _inhibits(["HeadraceNoGateway"], ["HeadraceGatewayDown"]),
            _inhibits(["HeadraceNoKeys"], ["HeadraceKeysStale"], series.ISSUER),
        ],
    }


def _receiver(name: str, url: str) -> Document:
    return {"name": name, "webhook_configs": [{"url": url, "send_resolved": True}]}


def _inhibits(stronger: Sequence[str], weaker: Sequence[str], *same: str) -> Document:
    """While one of the stronger ones fires, the weaker ones with the same labels are not told."""
    return {
        "source_matchers": [f'alertname=~"{"|".join(stronger)}"'],
        "target_matchers": [f'alertname=~"{"|".join(weaker)}"'],
        **({"equal": list(same)} if same else {}),
    }
