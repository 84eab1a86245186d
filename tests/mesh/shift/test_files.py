"""Weights in a folder of files."""

from __future__ import annotations

import copy
import fcntl
import os
import re
import stat
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from mesh.istio.document import RefusedError
from mesh.of_model import UnclearError
from mesh.shift import files
from mesh.shift.plan import ShiftError
from mesh.shift.wanted import Wanted
from tests.mesh.envoy.istio_vectors import CASES

CANARY = next(case for case in CASES if case.name == "all-canary") / "config.yaml"
WANTED: Wanted = {"1": 80, "2": 20}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "digits.yaml").write_bytes(CANARY.read_bytes())
    (tmp_path / "a.yml").write_text("kind: Other\napiVersion: v1\n")
    (tmp_path / "notes.txt").write_text("{")
    return tmp_path


def test_a_file_is_found_by_what_it_holds_and_its_weights_become_the_wanted_ones(folder: Path) -> None:
    before = (folder / "digits.yaml").read_text()
    file, plan = files.shift(folder, "digits", WANTED)
    assert file == folder / "digits.yaml"
    assert [(one.old, one.new) for one in plan.weights] == [(95, 80), (5, 20)]
    assert file.read_text() == before.replace("weight: 95", "weight: 80").replace("weight: 5", "weight: 20")
    assert sorted(path.name for path in folder.iterdir()) == ["a.yml", "digits.yaml", "notes.txt"]


def test_what_is_so_already_is_not_written(folder: Path) -> None:
    files.shift(folder, "digits", WANTED)
    before = (folder / "digits.yaml").stat()
    assert not files.shift(folder, "digits", WANTED)[1].changes
    after = (folder / "digits.yaml").stat()
    assert (before.st_ino, before.st_mtime_ns) == (after.st_ino, after.st_mtime_ns)


def test_mode_and_link_stay(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    real = tmp_path_factory.mktemp("elsewhere") / "real.yaml"
    (folder / "digits.yaml").rename(real)
    real.chmod(0o640)
    (folder / "digits.yaml").symlink_to(real)
    files.shift(folder, "digits", WANTED)
    assert (folder / "digits.yaml").is_symlink()
    assert stat.S_IMODE(real.stat().st_mode) == 0o640
    assert "weight: 80" in real.read_text()


def test_until_it_is_there_no_one_takes_it_for_yaml(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[str] = []
    replace = Path.replace

    def watched(self: Path, target: Path) -> Path:
        seen.extend(one.name for one in folder.iterdir())
        return replace(self, target)

    monkeypatch.setattr(Path, "replace", watched)
    files.shift(folder, "digits", WANTED)
    assert len(seen) == 4
    assert sum(name.endswith((".yaml", ".yml")) for name in seen) == 2


def test_who_edits_the_file_meanwhile_is_not_overwritten(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    edited = files.edited

    def interrupted(text: str, document: int, numbers: Mapping[Any, int]) -> str:
        (folder / "digits.yaml").write_text(text + "# mine\n")
        return edited(text, document, numbers)

    monkeypatch.setattr(files, "edited", interrupted)
    with pytest.raises(ShiftError, match="has been changed meanwhile"):
        files.shift(folder, "digits", WANTED)
    assert (folder / "digits.yaml").read_text() == CANARY.read_text() + "# mine\n"
    assert len([*folder.iterdir()]) == 3


def test_two_shifts_come_one_after_the_other(folder: Path) -> None:
    lock = os.open(folder, os.O_RDONLY)
    fcntl.flock(lock, fcntl.LOCK_EX)
    other = threading.Thread(target=files.shift, args=(folder, "digits", WANTED))
    other.start()
    other.join(0.3)
    try:
        assert other.is_alive()
        assert (folder / "digits.yaml").read_bytes() == CANARY.read_bytes()
    finally:
        os.close(lock)
        other.join(30)
    assert "weight: 80" in (folder / "digits.yaml").read_text()


ANCHORED = """
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: digits, namespace: models}
spec:
  hosts: [digits]
  http:
  - name: pin
    match: [{headers: {x-model-version: {exact: "2"}}}]
    route: &all
    - {destination: {host: digits, subset: v1}, weight: 90}
    - {destination: {host: digits, subset: v2}, weight: 10}
  - name: all
    route: *all
"""


def test_an_anchor_whose_every_use_changes_is_edited(tmp_path: Path) -> None:
    (tmp_path / "x.yaml").write_text(
        ANCHORED.replace('{headers: {x-model-version: {exact: "2"}}}', "{uri: {exact: /s}}")
    )
    files.shift(tmp_path, "digits", WANTED)
    assert re.findall("weight: (.*)}", (tmp_path / "x.yaml").read_text()) == ["80", "20"]


def test_an_anchor_that_stands_for_something_else_too_is_refused(tmp_path: Path) -> None:
    (tmp_path / "x.yaml").write_text(ANCHORED)
    with pytest.raises(ShiftError, match=r"x.yaml:2: VirtualService models/digits cannot be edited: .*an anchor"):
        files.shift(tmp_path, "digits", WANTED)
    assert (tmp_path / "x.yaml").read_text() == ANCHORED


@pytest.mark.parametrize(
    ("broken", "what"),
    [
        ("weight: -5", "weight: -5 must not be negative"),
        ("weights: 5", "weights: unknown field"),
        ("weight: {", r"digits.yaml:\d+: "),
    ],
)
def test_what_cannot_be_read_is_refused(folder: Path, broken: str, what: str) -> None:
    text = CANARY.read_text().replace("weight: 5", broken)
    (folder / "digits.yaml").write_text(text)
    with pytest.raises(RefusedError, match=what):
        files.shift(folder, "digits", WANTED)
    assert (folder / "digits.yaml").read_text() == text


def test_what_is_no_utf8_is_refused(folder: Path) -> None:
    (folder / "digits.yaml").write_bytes(b"# \xe4\n" + CANARY.read_bytes())
    with pytest.raises(RefusedError, match=r"digits.yaml: cannot be read: not UTF-8"):
        files.shift(folder, "digits", WANTED)


def test_a_model_of_two_virtual_services_is_asked_for_by_its_host(folder: Path) -> None:
    text = CANARY.read_text().replace("name: digits, namespace", "name: other, namespace")
    (folder / "other.yaml").write_text(text.replace("digits.models.svc", "other.models.svc"))
    with pytest.raises(UnclearError, match=r"models/other \(other.models.svc.cluster.local\); say which with --host"):
        files.shift(folder, "digits", WANTED)
    file, _ = files.shift(folder, "digits", WANTED, "other.models.svc.cluster.local:8001")
    assert file.name == "other.yaml"
    assert (folder / "digits.yaml").read_bytes() == CANARY.read_bytes()


WEIGHT = st.integers(0, 100)
LAYOUT = st.fixed_dictionaries(
    {"default_flow_style": st.sampled_from([True, False, None]), "indent": st.integers(2, 6)}
)


def default(stream: bool, shares: list[int]) -> dict[str, Any]:
    match = [{"uri": {"exact": "/inference.GRPCInferenceService/ModelStreamInfer"}}] if stream else []
    routes = [{"destination": {"host": "m", "subset": f"v{n}"}, "weight": one} for n, one in enumerate(shares, 1)]
    return {"name": f"default-{stream}", "match": match, "route": routes}


def pin(version: int) -> dict[str, Any]:
    match = {"headers": {"x-model-version": {"exact": str(version)}}}
    return {"match": [match], "route": [{"destination": {"host": "m", "subset": f"v{version}"}, "weight": 7}]}


@settings(max_examples=25, deadline=None)
@given(
    shares=st.lists(WEIGHT.filter(bool), min_size=2, max_size=4),
    one=WEIGHT,
    quoted=st.booleans(),
    layout=LAYOUT,
    newline=st.sampled_from(["\n", "\r\n"]),
    before=st.integers(0, 2),
)
def test_any_file_changes_in_its_weights_alone(
    tmp_path_factory: pytest.TempPathFactory,
    shares: list[int],
    one: int,
    quoted: bool,
    layout: dict[str, Any],
    newline: str,
    before: int,
) -> None:
    http = [*map(pin, range(1, len(shares) + 1)), default(True, shares), default(False, shares)]
    api = {"apiVersion": "networking.istio.io/v1", "kind": "VirtualService"}
    mine = api | {"metadata": {"name": "m"}, "spec": {"hosts": ["m"], "http": http}}
    other = api | {"metadata": {"name": "other"}, "spec": {"hosts": ["other"], "http": copy.deepcopy(http)}}
    text = yaml.safe_dump_all([*[other] * before, mine], sort_keys=False, width=9999, **layout)
    text = re.sub(r"(weight: )(\d+)", r"\1'\2'", text) if quoted else text
    text = re.sub(r"(?m)$", "  # ä", text) if layout["default_flow_style"] is False else text
    folder = tmp_path_factory.mktemp("any")
    (folder / "m.yaml").write_text(text.replace("\n", newline), newline="")
    if before > 1:
        with pytest.raises(UnclearError):
            files.shift(folder, "other", {"1": one, "2": 100 - one})
    files.shift(folder, "m", {"1": one, "2": 100 - one})
    after = (folder / "m.yaml").read_bytes().decode()
    assert re.sub(r"(weight: '?)\d+", r"\1N", after) == re.sub(r"(weight: '?)\d+", r"\1N", text.replace("\n", newline))
    expected = [*yaml.safe_load_all(text)]
    for route in expected[-1]["spec"]["http"][-2:]:
        for place, to in enumerate(route["route"]):
            weight = [one, 100 - one, 0, 0][place]
            to["weight"] = str(weight) if quoted else weight
    assert [*yaml.safe_load_all(after)] == expected
