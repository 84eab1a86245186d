"""`headrace mesh xds`, as compare.py's users call it."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.headrace.called import Done, headrace
from tests.mesh.envoy.istio_vectors import CASES, VECTORS

CASE = next(path for path in CASES if path.name == "all-canary")
PROXIES = VECTORS / "cases" / "proxies.yaml"
BASE = ("--istio", str(VECTORS / "cases" / "base.yaml"))


def xds(*arguments: str) -> Done:
    return headrace("mesh", "xds", *arguments)


@pytest.mark.parametrize("proxy", ["gateway", "worker"])
def test_what_is_printed_is_what_istio_generates(proxy: str, tmp_path: Path) -> None:
    done = xds(*BASE, "--istio", str(CASE / "config.yaml"), "--proxies", str(PROXIES), "--proxy", proxy)
    assert (done.returncode, done.stderr) == (0, "")
    (tmp_path / "ours.json").write_text(done.stdout)
    compare = [sys.executable, str(VECTORS / "compare.py"), str(CASE / f"{proxy}.json")]
    same = subprocess.run([*compare, str(tmp_path / "ours.json")], capture_output=True, text=True, check=False)
    assert same.returncode == 0, same.stdout
    changed = json.loads(done.stdout) | {"routes": []}
    (tmp_path / "changed.json").write_text(json.dumps(changed))
    other = subprocess.run([*compare, str(tmp_path / "changed.json")], capture_output=True, text=True, check=False)
    assert other.returncode == 1


def test_what_is_refused_is_one_line_for_each_mistake() -> None:
    bad = VECTORS / "refused" / "bad-weights"
    done = xds(*BASE, "--istio", str(next(bad.glob("*.yaml"))), "--proxies", str(PROXIES), "--proxy", "gateway")
    assert done.returncode == 1
    assert done.stdout == ""
    assert done.stderr.startswith("headrace: the resources cannot be used\n")
    assert "spec.http" in done.stderr


def test_a_proxy_that_is_not_there() -> None:
    done = xds(*BASE, "--proxies", str(PROXIES), "--proxy", "nobody")
    assert (done.returncode, done.stdout) == (1, "")
    assert "it has gateway, worker" in done.stderr
