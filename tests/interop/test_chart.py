"""The chart gives what the Prometheus Operator takes, and Prometheus reads."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from headrace.observability import prometheus
from headrace.observability.series import GATEWAY_JOB, MESH_JOB, WORKER_JOB
from headrace.observability.thresholds import Objective, Objectives, Thresholds, Timing
from tests.interop.test_rules import needs_prometheus, said
from tests.readme import TOP

pytestmark = [
    pytest.mark.interop,
    pytest.mark.skipif(shutil.which("helm") is None, reason="no helm: tests/interop/tools.sh"),
]

CHART = TOP / "deploy" / "chart" / "headrace"


def rendered(*settings: str) -> str:
    return said("helm", "template", "release", CHART, *(f"--set-json={setting}" for setting in settings))


def resources(*settings: str) -> dict[str, dict[str, Any]]:
    """Kind/name -> resource."""
    found = (document for document in yaml.safe_load_all(rendered(*settings)) if document)
    return {f"{one['kind']}/{one['metadata']['name']}": one for one in found}


def test_helm_has_nothing_to_say_against_it() -> None:
    assert "[WARNING]" not in said("helm", "lint", "--strict", CHART)


def test_the_rules_are_those_of_the_files() -> None:
    found = resources()
    timing = Timing()
    assert found["PrometheusRule/release-rules"]["spec"] == prometheus.recordings(timing)
    assert found["PrometheusRule/release-alerts"]["spec"] == prometheus.alerting(timing, Thresholds())


def test_objectives_are_the_users() -> None:
    settings = 'monitoring.objectives={"default": {"availability": 0.99}, "models": {"digits": {"latency": 0.2}}}'
    promised = Objectives(Objective(0.99, 1.0), {"digits": Objective(0.99, 0.2)})
    (group,) = prometheus.objectives(promised, Timing())["groups"]  # type: ignore[misc]
    (made,) = resources(settings)["PrometheusRule/release-objectives"]["spec"]["groups"]
    assert made["rules"] == group["rules"]


def test_runbooks_are_where_the_user_says() -> None:
    (group,) = resources('monitoring.runbooks="https://wiki.example/alerts"')["PrometheusRule/release-alerts"]["spec"][
        "groups"
    ]
    pages = {rule["annotations"]["runbook_url"].partition("#")[0] for rule in group["rules"]}
    assert pages == {"https://wiki.example/alerts"}


def test_monitors_name_the_jobs_that_the_rules_ask_for() -> None:
    found = resources()
    endpoints = [
        *found["ServiceMonitor/release-gateway"]["spec"]["endpoints"],
        *found["PodMonitor/release-worker"]["spec"]["podMetricsEndpoints"],
        *found["PodMonitor/release-mesh"]["spec"]["podMetricsEndpoints"],
    ]
    jobs = [rule["replacement"] for one in endpoints for rule in one["relabelings"] if rule["targetLabel"] == "job"]
    assert jobs == [GATEWAY_JOB, WORKER_JOB, MESH_JOB]


def test_without_an_operator_there_is_nothing() -> None:
    assert resources("monitoring.enabled=false") == {}


@needs_prometheus
def test_prometheus_reads_the_rules(tmp_path: Path) -> None:
    specs = [one["spec"] for name, one in resources().items() if name.startswith("PrometheusRule/")]
    assert len(specs) == 3
    for number, spec in enumerate(specs):
        (tmp_path / f"{number}.yml").write_text(yaml.safe_dump(spec))
        said("promtool", "check", "rules", tmp_path / f"{number}.yml")


needs_schemas = pytest.mark.skipif(shutil.which("kubeconform") is None, reason="no kubeconform: tests/interop/tools.sh")


@needs_schemas
def test_the_operator_takes_what_it_gives(tmp_path: Path) -> None:
    settings = ('monitoring.labels={"release": "stack"}', 'gateway.namespaces=["infer"]')
    verdict = conforms(rendered(*settings), tmp_path)
    assert (verdict["summary"]["valid"], verdict["summary"]["invalid"], verdict["summary"]["errors"]) == (6, 0, 0), (
        verdict
    )


@needs_schemas
def test_the_operator_would_not_take_a_field_that_it_does_not_know(tmp_path: Path) -> None:
    verdict = conforms(rendered().replace("podMetricsEndpoints", "endpoints"), tmp_path)
    assert verdict["summary"]["invalid"] == 2


def conforms(text: str, folder: Path) -> dict[str, Any]:
    crds = Path(shutil.which("kubeconform") or "").parent / "prometheus-operator-crd"
    for name in ("prometheusrules", "servicemonitors", "podmonitors"):
        crd = yaml.load((crds / f"monitoring.coreos.com_{name}.yaml").read_text(), Loader=_Loader)
        (version,) = (one for one in crd["spec"]["versions"] if one["name"] == "v1")
        schema = strict(version["schema"]["openAPIV3Schema"])
        (folder / f"{crd['spec']['names']['kind'].lower()}.json").write_text(json.dumps(schema))
    (folder / "resources.yaml").write_text(text)
    place = f"{folder}/{{{{ .ResourceKind }}}}.json"
    command = ("kubeconform", "-summary", "-output", "json", "-schema-location", place, folder / "resources.yaml")
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    return json.loads(done.stdout)


_Loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def strict(schema: Any) -> Any:
    """As the API server reads it with strict validation: what is not named is an error."""
    if isinstance(schema, list):
        return [strict(one) for one in schema]
    if not isinstance(schema, dict):
        return schema
    made = {name: strict(value) for name, value in schema.items()}
    return made | {"additionalProperties": False} if isinstance(schema.get("properties"), dict) else made
