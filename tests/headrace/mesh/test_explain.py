"""`headrace mesh explain`, as people and scripts call it."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from tests.headrace.called import Done, headrace
from tests.mesh.envoy.istio_vectors import VECTORS

CASE = VECTORS / "cases"
RENDERED = Path(__file__).parent.parent.parent / "mesh" / "render" / "catalogs"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "istio").mkdir()
    for file in (CASE / "base.yaml", CASE / "all-canary" / "config.yaml"):
        shutil.copy(file, tmp_path / "istio")
    shutil.copy(CASE / "proxies.yaml", tmp_path)
    return tmp_path


def explain(folder: Path, *arguments: str, proxies: bool = True) -> Done:
    command = ["mesh", "explain", *arguments, *(["--proxies", "proxies.yaml"] if proxies else [])]
    return headrace(*command, folder=folder, environ={"COLUMNS": "300"})


def rows(said: str) -> list[tuple[str, str]]:
    """The lines of a table: their first word, and the rest."""
    return [(line.split()[0], " ".join(line.split()[1:])) for line in said.splitlines() if line.strip()]


def test_people_read_why_a_route_wins_and_what_it_means(folder: Path) -> None:
    done = explain(folder, "digits", "--version", "2")
    assert (done.returncode, done.stderr) == (0, "")
    first, head, *said = rows(done.stdout)
    assert " ".join(first) == (
        "/inference.GRPCInferenceService/ModelInfer to digits.models.svc.cluster.local:8001, from infer/gateway"
    )
    assert head == ("route", "why not")
    assert said[:3] == [
        ("pin-1", "x-model-version must be 1, and is 2"),
        ("pin-2", "it is this one, istio/config.yaml:1"),
        ("100", "% v2: 127.0.1.13:8001 (app=digits, version=v2)"),
    ]
    assert [about for about, _ in said[3:]] == [
        "timeout", "retries", "copy", "budget", "limits", "ejection", "connect", "mTLS",
    ]  # fmt: skip


def test_what_differs_between_destinations_is_said_of_each(folder: Path) -> None:
    shutil.copy(CASE / "vs-weighted-headers" / "config.yaml", folder / "istio")
    said = rows(explain(folder, "digits").stdout)
    assert ("headers", "v1: what the worker gets: x-arm=stable") in said
    assert ("v2:", "what the worker gets: x-arm=canary") in said
    assert len([about for about, _ in said if about == "timeout"]) == 1


def test_what_looks_like_markup_is_shown_as_it_is(folder: Path) -> None:
    file = folder / "istio" / "config.yaml"
    file.write_text(file.read_text().replace('x-model-version: {exact: "1"}', 'x-model-version: {regex: "[a-z]"}'))
    assert ("pin-1", "x-model-version must match [a-z], and is 2") in rows(
        explain(folder, "digits", "--version=2").stdout
    )


def test_scripts_read_json_with_envoys_own(folder: Path) -> None:
    done = explain(folder, "digits", "--header", "x-a=b", "--header", "X-A=c", "--method", "ModelReady", "-o", "json")
    said = json.loads(done.stdout)
    assert (said["caller"], said["call"]["x-a"]) == ("infer/gateway", ["b", "c"])
    assert said["call"][":path"] == ["/inference.GRPCInferenceService/ModelReady"]
    assert [one["route"] for one in said["passed_over"]] == ["pin-1", "pin-2"]
    route = said["route"]
    assert (route["name"], route["source"]) == ("default", "istio/config.yaml:1")
    assert [(one["subset"], one["share"], len(one["copies"])) for one in route["destinations"]] == [
        ("v1", 0.95, 2),
        ("v2", 0.05, 1),
    ]
    assert route["envoy"]["route"]["retry_policy"]["num_retries"] == 2
    assert route["destinations"][0]["envoy"]["circuit_breakers"]["thresholds"][0]["max_requests"] == 512
    assert {"about": "connect", "says": "within 10s"} in route["destinations"][0]["means"]


def test_a_port_that_no_service_has(folder: Path) -> None:
    done = explain(folder, "digits", "--host", "digits.models.svc.cluster.local:9999")
    assert done.returncode == 0
    assert "no service has that host and port" in done.stdout
    assert "ends UNAVAILABLE" in " ".join(done.stdout.split())
    done = explain(folder, "digits", "--host", "digits.models.svc.cluster.local:9999", "-o", "json")
    assert json.loads(done.stdout)["unknown"] is True


def test_the_meshs_own_settings_hold(folder: Path) -> None:
    """As they would for mesh up."""
    (folder / "mesh.yaml").write_text("trustDomain: corp.example\n")
    done = explain(folder, "digits", "--version", "1", "--mesh", folder / "mesh.yaml")
    assert "spiffe://corp.example/" in done.stdout, done.stdout


def test_a_call_that_no_route_takes(folder: Path) -> None:
    shutil.copy(CASE / "vs-multi-model" / "config.yaml", folder / "istio")
    done = explain(folder, "bert", "--host", "triton.models.svc.cluster.local")
    assert done.returncode == 0
    assert rows(done.stdout)[-1][1].endswith("the sidecar answers 404, which gRPC reads as UNIMPLEMENTED")
    done = explain(folder, "bert", "--host", "triton.models.svc.cluster.local:8001", "-o", "json")
    assert json.loads(done.stdout)["route"] is None


def test_a_rendered_mesh_needs_no_proxies() -> None:
    done = explain(RENDERED / "canary", "digits", proxies=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert ("digits-default", "it is this one, istio/digits.yaml:2") in rows(done.stdout)


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (("digits", "--header", "x"), 2, "'x' is not NAME=VALUE"),
        (("letters",), 1, "in istio, nothing routes for letters; there are VirtualService models/digits, triton"),
        (("digits", "--from", "a/b"), 1, "there is no workload a/b; there are infer/gateway, models/worker"),
        (("digits", "--dir", "nowhere"), 2, "dir 'nowhere' does not exist"),
    ],
)
def test_what_cannot_be_said_is_a_sentence(folder: Path, arguments: tuple[str, ...], code: int, said: str) -> None:
    done = explain(folder, *arguments)
    assert (done.returncode, done.stdout) == (code, "")
    assert done.stderr.startswith("headrace: ")
    assert said in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_who_calls_is_asked_for(folder: Path) -> None:
    done = explain(folder, "digits", proxies=False)
    assert done.returncode == 1
    assert "say with --from, or describe with --proxies, who calls" in done.stderr


def test_what_cannot_be_compiled_is_refused(folder: Path) -> None:
    file = folder / "istio" / "config.yaml"
    file.write_text(file.read_text().replace("timeout: 5s", "timeout: 5"))
    done = explain(folder, "digits")
    assert done.returncode == 1
    assert done.stderr.startswith("headrace: the resources cannot be used\nistio/config.yaml:")
