"""`headrace` where a package lacks that the command line itself needs, as a process of its own."""

from __future__ import annotations

import json
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

TOP = Path(__file__).resolve().parents[2]

# What a package that is not there looks like: nothing of it can be imported, and nobody knows its version.
WITHOUT = """
import importlib.metadata, sys
lacking, distribution = {lacking!r}, importlib.metadata.distribution

class Nowhere:
    @staticmethod
    def find_spec(name, path=None, target=None):
        if name.partition(".")[0] == lacking:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)

def known(name):
    if name == lacking:
        raise importlib.metadata.PackageNotFoundError(name)
    return distribution(name)

sys.meta_path.insert(0, Nowhere)
importlib.metadata.distribution = known
from headrace.start import main
main()
"""
COMMAND_LINES = ("typer", "rich", "pydantic")


def headrace(*arguments: str, lacking: str, folder: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", WITHOUT.format(lacking=lacking), *arguments]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=60, check=False)


@pytest.mark.parametrize("lacking", COMMAND_LINES)
def test_a_command_says_in_one_sentence_what_to_install(lacking: str, tmp_path: Path) -> None:
    done = headrace("token", lacking=lacking, folder=tmp_path)
    assert (done.returncode, done.stdout) == (1, "")
    said = f"headrace: the command line needs the package {lacking}: run pip install '{lacking}"
    assert done.stderr.startswith(said)
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize("lacking", [*COMMAND_LINES, "grpc", "yaml"])
def test_the_doctor_finds_it_all_the_same(lacking: str, tmp_path: Path) -> None:
    done = headrace("doctor", "-o", "json", lacking=lacking, folder=tmp_path)
    assert (done.returncode, done.stderr) == (1, "")
    errors = [one for one in json.loads(done.stdout) if one["level"] == "error"]
    assert {one["area"] for one in errors} == {"packages"}
    if lacking in COMMAND_LINES:  # of the others, import and package have other names
        assert errors[0]["what"] == f"the package {lacking} is not installed"
        assert errors[0]["do"].startswith(f"run pip install '{lacking}")


def test_what_can_be_found_without_the_command_line_is(tmp_path: Path) -> None:
    (tmp_path / "headrace.yaml").write_text("listn: {}\n")
    done = headrace("doctor", lacking="typer", folder=tmp_path)
    assert done.returncode == 1
    assert "error    the package typer is not installed\n         -> run pip install 'typer>=" in done.stdout
    assert "listn: unknown key" in done.stdout


def test_packages_that_do_not_fit_together_are_told(tmp_path: Path) -> None:
    code = "import sys, types; sys.modules['pydantic'] = types.ModuleType('pydantic')\n"
    command = [sys.executable, "-c", f"{code}from headrace.start import main; main()", "token"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 1
    assert done.stderr.startswith("headrace: packages do not fit together (ImportError: cannot import name ")
    assert done.stderr.endswith("): run headrace doctor, which tells more\n")
    assert done.stderr.count("\n") == 1


def test_the_command_begins_there() -> None:
    scripts = tomllib.loads((TOP / "pyproject.toml").read_text())["project"]["scripts"]
    assert scripts == {"headrace": "headrace.start:main"}
