"""`headrace mesh shift`, as people and scripts call it."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

import mesh.shift
from tests.headrace.called import Done, headrace
from tests.mesh.envoy.istio_vectors import CASES

CANARY = next(case for case in CASES if case.name == "all-canary") / "config.yaml"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "istio").mkdir()
    shutil.copy(CANARY, tmp_path / "istio" / "digits.yaml")
    return tmp_path


def shift(folder: Path, *arguments: str, environ: Mapping[str, str] = {}) -> Done:
    return headrace("mesh", "shift", *arguments, folder=folder, environ={"COLUMNS": "100", **environ})


def test_old_and_new_weights_are_shown(folder: Path) -> None:
    done = shift(folder, "digits", "1=80", "2=20")
    assert (done.returncode, done.stderr) == (0, "")
    first, head, *rows = (line.split() for line in done.stdout.splitlines())
    assert " ".join(first) == "digits in istio/digits.yaml, VirtualService models/digits"
    assert (head, rows) == (
        ["route", "version", "was", "is"],
        [["default", "1", "95", "80"], ["default", "2", "5", "20"]],
    )
    text = CANARY.read_text().replace("weight: 95", "weight: 80").replace("weight: 5", "weight: 20")
    assert (folder / "istio" / "digits.yaml").read_text() == text
    assert ": so already" in shift(folder, "digits", "1=80", "2=20").stdout


def test_scripts_read_json(folder: Path) -> None:
    other = folder / "istio" / "digits.yaml"
    shift(folder, "digits", "1=80", "2=20")
    done = shift(folder, "digits", "2=100", "--dir", "istio", "-o", "json")
    assert json.loads(done.stdout) == {
        "model": "digits",
        "in": "istio/digits.yaml",
        "namespace": "models",
        "name": "digits",
        "weights": [
            {"route": "default", "version": "1", "subset": "v1", "old": 80, "new": 0},
            {"route": "default", "version": "2", "subset": "v2", "old": 20, "new": 100},
        ],
        "left": [],
    }
    assert "weight: 100" in other.read_text()


def test_routes_that_are_left_are_named(folder: Path) -> None:
    file = folder / "istio" / "digits.yaml"
    testers = (
        "  http:\n  - {name: testers, match: [{headers: {x-tester: {}}}], route: [{destination: {host: digits}}]}\n"
    )
    file.write_text(file.read_text().replace("  http:\n", testers))
    assert "left as it is: testers, only for calls with x-tester" in shift(folder, "digits", "2=100").stdout


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (("digits", "1=80", "2=2"), 2, "the weights add up to 82, not 100"),
        (("digits", "1=80", "two"), 2, "'two' is not VERSION=WEIGHT, as in 2=20"),
        (("digits", "1=100", "--dir", "nowhere"), 2, "dir 'nowhere' does not exist"),
        (("digits", "1=100", "-n", "models"), 2, "--context, --kubeconfig and --namespace need --cluster"),
        (("digits", "1=100", "--cluster", "--dir", "istio"), 2, "choose one"),
        (("letters", "1=100"), 1, "in istio, nothing routes for letters; there are VirtualService models/digits"),
        (("digits", "3=100"), 1, "there is no version 3 of digits: VirtualService models/digits has v1, v2; to bring"),
        (("digits", "1=100", "--cluster", "--kubeconfig", "istio/digits.yaml"), 1, "no cluster is known: "),
    ],
)
def test_what_cannot_be_done_is_a_sentence(folder: Path, arguments: tuple[str, ...], code: int, said: str) -> None:
    done = shift(folder, *arguments)
    assert (done.returncode, done.stdout) == (code, "")
    assert done.stderr.startswith("headrace: ")
    assert said in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert (folder / "istio" / "digits.yaml").read_text() == CANARY.read_text()


def test_what_cannot_be_read_has_a_line_for_each_mistake(folder: Path) -> None:
    file = folder / "istio" / "digits.yaml"
    file.write_text(file.read_text().replace("weight: 5", "weight: many"))
    done = shift(folder, "digits", "1=100")
    assert (done.returncode, done.stdout) == (1, "")
    first, mistake = done.stderr.splitlines()
    assert first == "headrace: the resources cannot be used"
    assert mistake.startswith("istio/digits.yaml:23: VirtualService models/digits: spec.http[2].route[1].weight: ")


def test_a_folder_that_is_not_there_is_said(tmp_path: Path) -> None:
    done = shift(tmp_path, "digits", "1=100")
    assert (done.returncode, done.stderr) == (1, "headrace: istio cannot be used: No such file or directory\n")


def test_without_the_package_the_extra_is_named(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "mesh.shift.cluster", raising=False)
    monkeypatch.delattr(mesh.shift, "cluster", raising=False)
    monkeypatch.setitem(sys.modules, "kubernetes", None)
    done = shift(folder, "digits", "1=100", "--cluster")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == (
        "headrace: headrace mesh shift --cluster needs the package kubernetes: run pip install 'headrace[cluster]'\n"
    )
