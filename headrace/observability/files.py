"""Every file that is made. Law: the same settings give the same text; what is committed is what this says.

Paths are from the top of the repository.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Final

import yaml

from headrace.observability import grafana, prometheus
from headrace.observability.dashboards import dashboards
from headrace.observability.thresholds import Objectives, Thresholds, Timing

_MADE: Final = "# Made by python -m headrace.observability: change headrace/observability/, and run it again.\n"
_YOURS: Final = "# What is promised of each model: yours to change. Made by python -m headrace.observability.\n"
_WIDE: Final = 1_000  # expressions stay on one line
DEPLOY: Final = PurePosixPath("deploy/observability")
CHART: Final = PurePosixPath("deploy/chart/headrace/files")


def files() -> Mapping[PurePosixPath, str]:
    """Path -> text."""
    timing, limits = Timing(), Thresholds()
    recordings = as_yaml(prometheus.recordings(timing))
    alerting = as_yaml(prometheus.alerting(timing, limits))
    server, pages = DEPLOY / "prometheus", DEPLOY / "grafana"
    return {
        server / "prometheus.yml": as_yaml(prometheus.prometheus(prometheus.Targets(), timing)),
        server / "objectives.yml": as_yaml(prometheus.objectives(Objectives(), timing), _YOURS),
        server / "rules.yml": recordings,
        server / "alerts.yml": alerting,
        DEPLOY / "alertmanager" / "alertmanager.yml": as_yaml(prometheus.alertmanager(prometheus.Receivers())),
        CHART / "rules.yml": recordings,
        CHART / "alerts.yml": alerting,
        pages / "provisioning" / "datasources" / "headrace.yml": as_yaml(
            grafana.datasources("http://127.0.0.1:9091", "http://127.0.0.1:16686")
        ),
        pages / "provisioning" / "dashboards" / "headrace.yml": as_yaml(grafana.providers("/etc/headrace/dashboards")),
        **{
            pages / "dashboards" / f"{made.uid}.json": json.dumps(made.document(), indent=2) + "\n"
            for made in dashboards(timing)
        },
    }


def write(top: Path) -> list[Path]:
    """Write what is missing or different; these."""
    changed = []
    for name, text in files().items():
        path = top / name
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
            changed.append(path)
    return changed


def as_yaml(document: prometheus.Document, head: str = _MADE) -> str:
    """In the order in which it was made."""
    return head + yaml.safe_dump(document, sort_keys=False, width=_WIDE, allow_unicode=True)
