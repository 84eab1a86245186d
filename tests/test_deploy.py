"""What deploy/ starts is what the command line has."""

import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

UNITS = sorted((Path(__file__).parent.parent / "deploy" / "systemd").glob("*.service"))


@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.name)
def test_commands_of_units_exist(unit: Path) -> None:
    commands = re.findall(r"^ExecStart(?:Pre)?=\S+/headrace (.*)$", unit.read_text(), re.MULTILINE)
    assert commands
    for command in commands:
        words = [word for word in shlex.split(command) if not word.startswith(("--", "/")) and ":" not in word]
        told = subprocess.run(
            [sys.executable, "-m", "headrace", *words, "--help"],
            capture_output=True, text=True, check=True, env={"COLUMNS": "200", "NO_COLOR": "1", "TERM": "dumb"},
        ).stdout  # fmt: skip
        for option in re.findall(r"--\w+", command):
            assert option in told


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd is not here")
@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.name)
def test_systemd_accepts_the_unit(unit: Path, tmp_path: Path) -> None:
    staged = tmp_path / unit.name
    staged.write_text(unit.read_text().replace("/opt/headrace/bin/headrace", "/bin/true"))
    verdict = subprocess.run(["systemd-analyze", "verify", staged], check=False, capture_output=True, text=True)
    assert (verdict.returncode, verdict.stderr) == (0, "")


JAEGER = Path(__file__).parent.parent / "deploy" / "observability" / "jaeger" / "compose.yaml"


def test_jaeger_is_pinned_and_on_the_loopback() -> None:
    """By https://github.com/compose-spec/compose-spec/blob/main/05-services.md; interop tests run the command."""
    (service,) = yaml.safe_load(JAEGER.read_text())["services"].values()
    assert re.fullmatch(r"jaegertracing/all-in-one:\d+\.\d+\.\d+", service["image"])
    assert service["ports"] == ["127.0.0.1:4317:4317", "127.0.0.1:16686:16686"]
    assert set(service) <= {
        *("image", "environment", "command", "ports", "restart"),
        *("read_only", "cap_drop", "security_opt", "mem_limit"),
    }
