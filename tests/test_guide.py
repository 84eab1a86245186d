"""What the guides in docs/ show works as it stands there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from headrace.rendering import source_of
from mesh.render.files import render
from tests import readme
from tests.envoy import needs_envoy
from tests.gateway.tokens import Issuer

TEXT = (readme.TOP / "docs" / "mesh.md").read_text()

pytest_plugins = ["pytester"]


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", TEXT, re.MULTILINE | re.DOTALL)


@needs_envoy
def test_the_users_tests_of_the_users_policies_pass(pytester: pytest.Pytester) -> None:
    (policies,) = (block for block in blocks("yaml") if "AuthorizationPolicy" in block)
    (tests,) = blocks("python")
    folder = pytester.mkdir("istio")
    (folder / "digits.yaml").write_text(policies)
    pytester.makepyfile(tests)
    pytester.runpytest_subprocess("-p", "no:cacheprovider").assert_outcomes(passed=4)
    (folder / "digits.yaml").write_text(
        policies.replace("weight: 90", "weight: 50").replace("weight: 10", "weight: 50")
    )
    done = pytester.runpytest_subprocess("-p", "no:cacheprovider", "-k", "canary")
    done.assert_outcomes(failed=1, deselected=3)
    done.stdout.fnmatch_lines(["*answered * of 2000 calls; for a share of 10.0% * would be chance*"])


def test_the_settings_are_read_and_rendered(tmp_path: Path) -> None:
    from gateway.settings import load

    (shown,) = (yaml.safe_load(block) for block in blocks("yaml") if block.startswith("issuers:"))
    (tmp_path / "jwks.json").write_bytes(Issuer().jwks())
    (tmp_path / "headrace.yaml").write_text(yaml.safe_dump(shown))
    files = render(source_of(load(tmp_path / "headrace.yaml", {})), {})
    assert set(files) == {"digits.yaml", "gateway.yaml", "workloads.yaml"}


def test_the_settings_of_a_cluster_are_read_and_rendered(tmp_path: Path) -> None:
    from gateway.settings import load

    shown, lane = (yaml.safe_load(block) for block in blocks("yaml") if block.startswith(("issuers:", "listen:")))
    (tmp_path / "jwks.json").write_bytes(Issuer().jwks())
    (tmp_path / "headrace.yaml").write_text(yaml.safe_dump(shown | lane | {"upstream": {"mode": "mesh"}}))
    files = render(source_of(load(tmp_path / "headrace.yaml", {}), express=True), {})
    assert set(files) == {"digits.yaml", "gateway.yaml", "express-lane.yaml"}
    assert "number: 8443" in files["express-lane.yaml"]


PAGES = [readme.TOP / "README.md", *sorted((readme.TOP / "docs").rglob("*.md"))]


def anchors(page: Path) -> set[str]:
    """The names that GitHub gives a page's headings."""
    found = re.findall(r"^#+ (.*)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in found}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(readme.TOP)))
def test_what_a_page_links_to_is_there(page: Path) -> None:
    for target in re.findall(r"\]\((?!https?:)([^)\s]+)\)", page.read_text()):
        path, _, anchor = target.partition("#")
        other = (page.parent / path).resolve() if path else page
        assert other.exists(), target
        assert not anchor or anchor in anchors(other), target


def test_the_commands_it_names_are_there() -> None:
    from typer.testing import CliRunner

    from headrace.cli import app

    named = {name for block in blocks("sh") for name in re.findall(r"^headrace (mesh \w+|\w+)", block, re.MULTILINE)}
    assert {"mesh render", "mesh up", "mesh shift", "mesh status", "mesh explain", "gateway"} <= named
    for command in named:
        assert CliRunner().invoke(app, [*command.split(), "--help"]).exit_code == 0, command


def test_the_settings_for_sequences_are_read(tmp_path: Path) -> None:
    from gateway.settings import load

    guide = (readme.TOP / "docs" / "sequences.md").read_text()
    (shown,) = (yaml.safe_load(block) for block in re.findall(r"^```yaml\n(.*?)^```$", guide, re.MULTILINE | re.DOTALL))
    issuers = [{"issuer": "i", "audiences": ["headrace"], "jwks": "file:jwks.json", "algorithms": ["ES256"]}]
    (tmp_path / "jwks.json").write_bytes(Issuer().jwks())
    (tmp_path / "headrace.yaml").write_text(yaml.safe_dump(shown | {"issuers": issuers, "grants": []}))
    (model,) = load(tmp_path / "headrace.yaml", {}).models
    assert model.sequence is not None and model.sequence.idle == 60.0
