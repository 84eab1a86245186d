"""`headrace mesh render`: what it writes, keeps, removes and refuses."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.gateway.certificates import Authority
from tests.headrace.called import Done, headrace
from tests.mesh.render.rendered import CATALOGS, committed

CANARY = next(path for path in CATALOGS if path.name == "canary")
CONFIG = """
issuers:
- {issuer: https://id.example/, audiences: [headrace], algorithms: [RS256]}
models:
- name: digits
  host: digits.models:8001
  versions: {"1": {version: v1}, "2": {version: v2}}
  traffic: {"1": 90, "2": 10}
- {name: faces, host: "faces.models:8001", versions: {"1": {}}}
upstream: {mode: mesh}
"""


@pytest.fixture
def config(tmp_path: Path) -> Path:
    (tmp_path / "headrace.yaml").write_text(CONFIG)
    return tmp_path / "headrace.yaml"


@pytest.fixture
def to(tmp_path: Path) -> Path:
    return tmp_path / "istio"


def render(config: Path, to: Path, *arguments: str) -> Done:
    return headrace("mesh", "render", "--config", str(config), "--to", str(to), *arguments)


def rendered(config: Path, to: Path, *arguments: str) -> dict[str, Any]:
    done = render(config, to, "-o", "json", *arguments)
    assert (done.returncode, done.stderr) == (0, "")
    said: dict[str, Any] = json.loads(done.stdout)
    assert said.pop("folder") == str(to)
    return said


def shift(file: Path) -> None:
    """As `headrace mesh shift digits 1=20 2=80` would."""
    text = file.read_text()
    assert text.count("weight: 90") == text.count("weight: 10") == 2
    file.write_text(text.replace("weight: 90", "weight: 20").replace("weight: 10", "weight: 80"))


def files(folder: Path) -> dict[str, str]:
    return {file.name: file.read_text() for file in folder.iterdir()}


def test_a_line_for_each_file(to: Path) -> None:
    done = render(CANARY / "headrace.yaml", to)
    assert (done.returncode, done.stderr) == (0, "")
    names = ["digits.yaml", "gateway.yaml", "workloads.yaml"]
    assert done.stdout.splitlines() == [f"written    {to / name}" for name in names]
    assert files(to) == committed(CANARY)


def test_what_is_the_same_is_not_written_again(config: Path, to: Path) -> None:
    names = ["digits.yaml", "faces.yaml", "gateway.yaml"]
    nothing: dict[str, Any] = {"written": [], "unchanged": [], "removed": [], "shifted": {}}
    assert rendered(config, to) == nothing | {"written": names}
    before = {name: (to / name).stat().st_mtime_ns for name in names}
    assert rendered(config, to) == nothing | {"unchanged": names}
    assert {name: (to / name).stat().st_mtime_ns for name in names} == before


def test_live_weights_stay_until_they_are_reset(config: Path, to: Path) -> None:
    rendered(config, to)
    first = files(to)
    shift(to / "digits.yaml")
    config.write_text(CONFIG.replace("traffic:", "timeout: 7s\n  traffic:"))
    assert rendered(config, to)["shifted"] == {"digits": {"1": 20, "2": 80}}
    text = (to / "digits.yaml").read_text()
    assert text.count("weight: 80") == 2
    assert "timeout: 7s" in text
    assert render(config, to).stdout.splitlines()[-1] == "digits keeps its live weights 1=20 2=80"
    config.write_text(CONFIG)
    assert rendered(config, to, "--reset-weights")["shifted"] == {}
    assert files(to) == first


def test_live_weights_stay_when_another_model_comes_to_the_host(config: Path, to: Path) -> None:
    rendered(config, to)
    shift(to / "digits.yaml")
    config.write_text(CONFIG.replace("faces.models", "digits.models"))
    said = rendered(config, to)
    assert said["written"] == ["digits.models.yaml", "gateway.yaml"]
    assert said["removed"] == ["digits.yaml", "faces.yaml"]
    assert said["shifted"] == {"digits": {"1": 20, "2": 80}}
    assert (to / "digits.models.yaml").read_text().count("weight: 80") == 2


def test_files_that_are_no_longer_rendered_go_and_others_stay(config: Path, to: Path) -> None:
    rendered(config, to)
    (to / "mine.yaml").write_text("kind: Mine\n")
    config.write_text(CONFIG.replace('- {name: faces, host: "faces.models:8001", versions: {"1": {}}}\n', ""))
    assert rendered(config, to)["removed"] == ["faces.yaml"]
    assert files(to).keys() == {"digits.yaml", "gateway.yaml", "mine.yaml"}


def test_a_foreign_file_is_refused(config: Path, to: Path) -> None:
    to.mkdir()
    (to / "faces.yaml").write_text("kind: Mine\n")
    done = render(config, to)
    assert (done.returncode, done.stdout) == (1, "")
    said = "faces.yaml is not from headrace mesh render: move it away, or render into another folder"
    assert done.stderr == f"headrace: the resources cannot be written\n{said}\n"
    assert files(to) == {"faces.yaml": "kind: Mine\n"}


def test_weights_that_cannot_be_read(config: Path, to: Path) -> None:
    rendered(config, to)
    whole = (to / "digits.yaml").read_text()
    (to / "digits.yaml").write_text(whole.replace("weight: 90", "weight: most"))
    done = render(config, to)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith(f"headrace: the weights in {to} cannot be read; --reset-weights starts over\n")
    assert "digits.yaml:" in done.stderr
    rendered(config, to, "--reset-weights")
    assert (to / "digits.yaml").read_text() == whole


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("name: faces", "name: gateway", "the resources cannot be written\nmodel gateway: gateway.yaml is the file of"),
        ("digits.models:8001", "digits:8001", "the resources cannot be written\nmodel digits: host: digits:8001 names"),
        ("{version: v1}", '{version: "é"}', "the resources cannot be written\ndigits.yaml:"),
        ("audiences", "audience", "the configuration cannot be used\n"),
    ],
)
def test_what_cannot_be_rendered_changes_nothing(config: Path, to: Path, old: str, new: str, words: str) -> None:
    rendered(config, to)
    before = files(to)
    config.write_text(CONFIG.replace(old, new))
    done = render(config, to)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith(f"headrace: {words}")
    assert files(to) == before


def test_another_trust_domain_is_the_meshs_too(config: Path, to: Path) -> None:
    assert render(config, to).stderr == ""
    config.write_text(CONFIG + "mesh: {trust_domain: corp.example}\n")
    done = render(config, to)
    assert done.returncode == 0
    assert done.stderr == "the mesh's trustDomain must be 'corp.example', too: mesh up takes it with --mesh FILE\n"


def test_another_proxy_is_the_meshs_too(config: Path, to: Path) -> None:
    config.write_text(CONFIG.replace("mode: mesh", "mode: mesh, proxy: 127.0.0.1:15901"))
    done = render(config, to)
    assert (
        done.stderr
        == "the gateway's sidecar must be at 127.0.0.1:15901: mesh up takes it with --proxy 127.0.0.1:15901\n"
    )


def test_a_folder_that_cannot_be_written(config: Path, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    done = render(config, tmp_path / "file" / "istio")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == f"headrace: {tmp_path / 'file' / 'istio'} cannot be used: Not a directory\n"


IN_FULL = CONFIG.replace(".models:8001", ".models.svc.cluster.local:8001")
LANE = IN_FULL + "listen: {express: external}\nmesh: {ingress: {credential: door}}\n"


def test_with_the_express_lane_there_is_a_file_more(config: Path, to: Path) -> None:
    config.write_text(LANE)
    assert rendered(config, to, "--express")["written"] == [
        *("digits.yaml", "faces.yaml", "gateway.yaml", "express-lane.yaml"),
    ]
    shift(to / "digits.yaml")
    assert rendered(config, to, "--express")["shifted"] == {"digits": {"1": 20, "2": 80}}
    assert rendered(config, to)["removed"] == ["express-lane.yaml"]
    assert "express" not in (to / "digits.yaml").read_text()


def test_a_shift_is_both_lanes(config: Path, to: Path) -> None:
    config.write_text(LANE)
    rendered(config, to, "--express")
    before = (to / "digits.yaml").read_text()
    done = headrace("mesh", "shift", "digits", "1=20", "2=80", "--dir", str(to))
    assert done.returncode == 0, done.stderr
    after = before.replace("weight: 90", "weight: 20").replace("weight: 10", "weight: 80")
    assert (to / "digits.yaml").read_text() == after != before


@pytest.mark.parametrize(
    ("old", "new", "hint"),
    [
        ("express: external", "express: off", "the gateway teaches that lane only with listen.express: external"),
        ("credential: door", "port: 8080", "callers come in by plain text: mesh.ingress.credential names the secret"),
    ],
)
def test_what_is_to_be_looked_at_with_the_express_lane(old: str, new: str, hint: str, config: Path, to: Path) -> None:
    config.write_text(LANE)
    assert render(config, to, "--express").stderr == ""
    config.write_text(LANE.replace(old, new))
    assert render(config, to, "--express").stderr.startswith(hint)
    assert render(config, to).stderr == ""


def test_the_gateway_behind_an_ingress_has_no_tls_of_its_own(config: Path, to: Path) -> None:
    certificate, key = Authority().issue("127.0.0.1")
    (config.parent / "server.pem").write_bytes(certificate)
    (config.parent / "server.key").write_bytes(key)
    tls = "{express: external, tls: {certificate: server.pem, key: server.key}}"
    config.write_text(LANE.replace("{express: external}", tls))
    assert rendered(config, to)
    done = render(config, to, "--express")
    assert done.returncode == 1
    assert done.stderr.startswith("headrace: the resources cannot be written\nlisten.tls: is the gateway's own")


def test_short_hosts_are_not_for_the_express_lane(config: Path, to: Path) -> None:
    done = render(config, to, "--express")
    assert done.returncode == 1
    assert "host: must be digits.models.svc.cluster.local:8001, in full, for the express lane" in done.stderr
