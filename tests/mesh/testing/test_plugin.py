"""The plugin as its users have it: their test file, their YAML, their pytest."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.envoy import needs_envoy
from tests.mesh.local.scene import GATEWAY_ALONE, ROUTES, STRICT, folder, joined

pytest_plugins = ["pytester"]

pytestmark = [needs_envoy, pytest.mark.timeout(120)]

RETRIED = ROUTES.replace("attempts: 0", "attempts: 2, retryOn: unavailable")
USERS_TEST = """
from pathlib import Path

import pytest
from grpc import StatusCode

DIGITS = "digits.models.svc.cluster.local:8001"
COPIES = [{"app": "digits", "version": version} for version in ("v1", "v1", "v2")]


@pytest.fixture
def mesh(mesh_up):
    return mesh_up("istio", services={DIGITS: COPIES})


def test_version_2_gets_a_tenth(mesh):
    mesh.calls(DIGITS, 1000).assert_share(0.1, version="v2")


def test_unavailable_is_tried_again_and_a_bad_request_is_not(mesh):
    for worker in mesh.workers.values():
        worker.answers(StatusCode.UNAVAILABLE, times=1)
    assert mesh.call(DIGITS).status is StatusCode.OK
    for worker in mesh.workers.values():
        worker.answers(StatusCode.INVALID_ARGUMENT)
    assert mesh.call(DIGITS).status is StatusCode.INVALID_ARGUMENT


def test_only_the_gateway_gets_in(mesh):
    assert mesh.call_in_plain_text("digits-1").status is StatusCode.UNAVAILABLE
    assert mesh.call(DIGITS, via="digits-1").status is StatusCode.PERMISSION_DENIED


def test_half(mesh):
    mesh.calls(DIGITS, 300).assert_share(0.5, version="v2")
"""
USERS_MISTAKE = """
def test_it(mesh_up):
    mesh_up("istio")
"""


def laid_out(pytester: pytest.Pytester, test: str, text: str) -> None:
    folder(pytester.path / "istio", digits=text)
    pytester.makepyfile(test)


def test_a_user_asserts_policies_in_a_few_lines(pytester: pytest.Pytester) -> None:
    laid_out(pytester, USERS_TEST, joined(RETRIED, STRICT, GATEWAY_ALONE))
    done = pytester.runpytest_subprocess("-p", "no:cacheprovider")
    done.assert_outcomes(passed=3, failed=1)
    words = r"{'version': 'v2'} answered \d+ of 300 calls; for a share of 50\.0% 1\d\d to 1\d\d would be chance"
    done.stdout.re_match_lines([f"E +AssertionError: {words}"])


def test_a_mistake_in_the_yaml_is_shown_with_its_line(pytester: pytest.Pytester) -> None:
    laid_out(pytester, USERS_MISTAKE, ROUTES.replace("timeout: 5s", "timeout: soon"))
    done = pytester.runpytest_subprocess("-p", "no:cacheprovider")
    done.assert_outcomes(failed=1)
    words = r"istio/digits\.yaml:8: VirtualService models/digits: spec\.http\[0\]\.timeout"
    done.stdout.re_match_lines([rf"E +mesh\.istio\.document\.RefusedError: {words}"])


def test_who_asks_for_no_mesh_pays_for_none(tmp_path: Path) -> None:
    """pytest imports the plugin for everybody."""
    heavy = ("aiohttp", "cryptography", "google", "grpc", "mesh.istio", "mesh.local", "pydantic", "yaml")
    code = f"import sys, mesh.testing.plugin; print([name for name in {heavy} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_what_is_exported_is_there_and_nothing_else() -> None:
    import mesh.testing

    assert {name: getattr(mesh.testing, name).__name__ for name in mesh.testing.__all__} == {
        name: name for name in ("Call", "Calls", "Mesh", "Worker", "running")
    }
    with pytest.raises(AttributeError, match=r"module 'mesh\.testing' has no attribute 'nothing'"):
        _ = mesh.testing.nothing
