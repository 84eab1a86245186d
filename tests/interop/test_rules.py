"""Prometheus's and Alertmanager's own tools read what is made, and each alert fires, clears, and is silent."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from headrace.observability.alerts import alerts
from headrace.observability.prometheus import RULES
from headrace.observability.thresholds import Thresholds, Timing
from tests.interop.rule_cases import CASES, Case
from tests.readme import TOP

pytestmark = pytest.mark.interop

needs_prometheus = pytest.mark.skipif(shutil.which("promtool") is None, reason="no promtool: tests/interop/tools.sh")
PROMETHEUS = TOP / "deploy" / "observability" / "prometheus"


def said(*command: str | Path) -> str:
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@needs_prometheus
def test_prometheus_takes_the_files() -> None:
    said("promtool", "check", "rules", *(PROMETHEUS / name for name in RULES))
    assert "SUCCESS: 3 rule files found" in said("promtool", "check", "config", PROMETHEUS / "prometheus.yml")


@pytest.mark.skipif(shutil.which("amtool") is None, reason="no amtool: tests/interop/tools.sh")
@pytest.mark.parametrize(
    ("severity", "receiver"), [("critical", "critical"), ("warning", "warning")], ids=["critical", "warning"]
)
def test_alertmanager_takes_its_file_and_sends_where_it_says(severity: str, receiver: str) -> None:
    path = TOP / "deploy" / "observability" / "alertmanager" / "alertmanager.yml"
    said("amtool", "check-config", path)
    assert (
        said("amtool", "config", "routes", "test", f"--config.file={path}", f"severity={severity}").strip() == receiver
    )


@needs_prometheus
@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.alert}: {case.tells}")
def test_the_alert_fires_and_clears_when_it_should(case: Case, tmp_path: Path) -> None:
    inside = f'alertname="{case.alert}", alertstate="firing"{case.labels and ", " + case.labels}'
    expression = f"count(ALERTS{{{inside}}}) or vector(0)"
    expected = {minute: minute in case.fires for minute in sorted({*case.fires, *case.silent})}
    asked = [
        {"expr": expression, "eval_time": f"{minute}m", "exp_samples": [{"labels": "{}", "value": int(fires)}]}
        for minute, fires in expected.items()
    ]
    series = [{"series": name, "values": values} for name, values in case.series.items()]
    document = {
        "rule_files": [str(PROMETHEUS / name) for name in RULES],
        "evaluation_interval": "1m",
        "tests": [{"interval": "1m", "input_series": series, "promql_expr_test": asked}],
    }
    (tmp_path / "test.yml").write_text(yaml.safe_dump(document))
    said("promtool", "test", "rules", tmp_path / "test.yml")


def test_every_alert_has_cases_of_both_kinds() -> None:
    names = {alert.name for alert in alerts(Timing(), Thresholds())}
    assert {case.alert for case in CASES if case.fires and case.silent} == names
    assert {case.alert for case in CASES if not case.fires} == names
