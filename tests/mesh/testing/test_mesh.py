"""What a test can do with a mesh, on real Envoys."""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Iterator
from pathlib import Path

import grpc
import psutil
import pytest

from mesh.istio.document import RefusedError
from mesh.testing import Mesh, running
from tests.envoy import needs_envoy
from tests.gateway.tokens import Issuer
from tests.mesh.local.scene import (
    ALL,
    CALLER,
    COPIES,
    DIGITS,
    GATEWAY_ALONE,
    ROUTES,
    SERVICE,
    STRICT,
    copy,
    folder,
    joined,
    listening,
)

pytestmark = [needs_envoy, pytest.mark.timeout(120)]

OK, DENIED, UNAVAILABLE = grpc.StatusCode.OK, grpc.StatusCode.PERMISSION_DENIED, grpc.StatusCode.UNAVAILABLE
INVALID = grpc.StatusCode.INVALID_ARGUMENT
RETRIED = ROUTES.replace("attempts: 0", "attempts: 2, retryOn: unavailable").replace("weight: 90", "weight: 100")
PINNED = RETRIED.replace("weight: 10}", "weight: 0}")


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mesh]:
    """All of v1, what is UNAVAILABLE is tried twice more."""
    files = folder(tmp_path_factory.mktemp("mesh") / "istio", all=joined(SERVICE, PINNED, STRICT, CALLER, *COPIES))
    with running(files) as made:
        yield made


@pytest.fixture(autouse=True)
def all_well(request: pytest.FixtureRequest) -> Iterator[None]:
    yield
    if "digits" in request.fixturenames:
        for worker in request.getfixturevalue("digits").workers.values():
            worker.answers()
            worker.requests.clear()


def tries(mesh: Mesh) -> int:
    return sum(len(worker.requests) for worker in mesh.workers.values())


def test_who_is_there(digits: Mesh) -> None:
    assert [*digits.workers] == ["canary.models", "one.models", "two.models"]
    assert [*digits.sidecars] == ["gateway.infer", "canary.models", "one.models", "two.models"]
    assert digits.worker(version="v2") is digits.workers["canary"]
    with pytest.raises(LookupError, match=r"2 workers have {'version': 'v1'}: one\.models, two\.models"):
        digits.worker(version="v1")
    with pytest.raises(LookupError, match=r"0 workers have {'version': 'v9'}: none"):
        digits.worker(version="v9")


def test_a_call_says_what_came_of_it(digits: Mesh) -> None:
    call = digits.call(DIGITS, x_model_name="digits")
    assert call.status is OK
    assert call.worker is not None
    assert call.worker.labels["version"] == "v1"
    assert call.worker.requests[-1].headers["x-model-name"] == "digits"
    assert 0 < call.seconds < 10


def test_unavailable_is_tried_again_and_a_bad_request_is_not(digits: Mesh) -> None:
    for worker in digits.workers.values():
        worker.answers(UNAVAILABLE, times=1)
    assert digits.call(DIGITS).status is OK
    assert 2 <= tries(digits) <= 3
    for worker in digits.workers.values():
        worker.answers(INVALID)
        worker.requests.clear()
    assert digits.call(DIGITS).status is INVALID
    assert tries(digits) == 1


@pytest.mark.parametrize(("failures", "ejected"), [(3, False), (4, True)])
def test_the_fourth_failure_in_a_row_ejects(failures: int, ejected: bool, tmp_path: Path) -> None:
    never_again = PINNED.replace("attempts: 2, retryOn: unavailable", "attempts: 0")
    with running(folder(tmp_path / "istio", all=joined(SERVICE, never_again, CALLER, *COPIES))) as mesh:
        mesh.workers["one"].answers(UNAVAILABLE, times=failures)
        calls = mesh.calls(DIGITS, 100, at_once=1)
        assert calls.statuses[UNAVAILABLE] == failures
        assert (len(mesh.workers["one"].requests) < failures + 10) is ejected  # it takes a moment
        assert sum(calls.workers.values()) == 100


def test_one_that_is_killed_is_not_missed(digits: Mesh) -> None:
    digits.workers["one"].stop()
    try:
        digits.calls(DIGITS, 100).assert_ok()
    finally:
        digits.workers["one"].start()


def test_who_is_not_of_the_mesh_is_turned_away_and_not_without_the_policy(tmp_path: Path) -> None:
    with running(folder(tmp_path / "istio", all=ALL)) as mesh:
        assert mesh.call(DIGITS).status is OK
        assert mesh.call(DIGITS, via="one").status is DENIED
        assert mesh.call_in_plain_text("one").status is UNAVAILABLE
        mesh.remove("PeerAuthentication", "default")
        mesh.remove("AuthorizationPolicy", "digits", "models")
        assert mesh.call(DIGITS, via="one").status is OK
        assert mesh.call_in_plain_text("one").status is OK
        assert not mesh.workers["one"].requests[-1].headers.get("x-forwarded-client-cert")
        with pytest.raises(LookupError, match="there is no AuthorizationPolicy digits"):
            mesh.remove("AuthorizationPolicy", "digits")


def test_services_whose_pods_kubernetes_knows(tmp_path: Path) -> None:
    files = folder(tmp_path / "istio", policies=joined(ROUTES, STRICT, GATEWAY_ALONE))
    copies = [{"app": "digits", "version": version} for version in ("v1", "v1", "v2")]
    with running(files, services={DIGITS: copies}) as mesh:
        assert [*mesh.workers] == ["digits-1.models", "digits-2.models", "digits-3.models"]
        calls = mesh.calls(DIGITS, 1000)
        calls.assert_ok()
        calls.assert_share(0.1, version="v2")
        with pytest.raises(AssertionError, match="for a share of 50"):
            calls.assert_share(0.5, version="v2")
    with running(files, services={DIGITS: copies}, caller="batch/nightly") as mesh:
        assert mesh.call(DIGITS).status is DENIED


def test_what_is_written_is_in_force_and_the_users_files_are_as_they_were(tmp_path: Path) -> None:
    files = folder(tmp_path / "istio", all=joined(SERVICE, PINNED, CALLER, *COPIES))
    with running(files) as mesh:
        assert mesh.calls(DIGITS, 20).answered_by(version="v2") == 0
        mesh.write("all.yaml", joined(SERVICE, CALLER, copy("other", "v2", 8105)))
        assert [*mesh.workers] == ["other.models"]
        assert mesh.calls(DIGITS, 20).workers == {"other.models": 20}
        mesh.write("more.yaml", copy("fourth", "v1", 8106))
        assert set(mesh.calls(DIGITS, 100).workers) == {"other.models", "fourth.models"}
        mesh.remove("WorkloadEntry", "fourth")
        assert mesh.calls(DIGITS, 20).workers == {"other.models": 20}
    assert [(path.name, path.read_text()) for path in files.iterdir()] == [
        ("all.yaml", joined(SERVICE, PINNED, CALLER, *COPIES))
    ]


def test_labels_and_ports_of_stand_ins_change_with_their_entries(tmp_path: Path) -> None:
    with running(folder(tmp_path / "istio", all=joined(SERVICE, CALLER, copy("one", "v1", 8101)))) as mesh:
        assert mesh.call(DIGITS).status is OK
        mesh.write("all.yaml", joined(SERVICE, CALLER, copy("one", "v2", 8102)))
        mesh.calls(DIGITS, 5).assert_share(1.0, version="v2")


def test_what_cannot_be_used_is_refused_by_its_line(tmp_path: Path, digits: Mesh) -> None:
    files = folder(tmp_path / "istio", all=ALL.replace("timeout: 5s", "timeout: soon"))
    line = "all.yaml:18: VirtualService models/digits: spec.http[0].timeout: "
    with pytest.raises(RefusedError, match=f"^{re.escape(f'{files}/{line}')}"):
        running(files).__enter__()
    with pytest.raises(RefusedError, match=f"^{re.escape(f'{files}/{line}')}"):
        running(files / "all.yaml").__enter__()
    with pytest.raises(RefusedError, match=r"istio/new\.yaml:1: "):
        digits.write("new.yaml", "kind: Nonsense")
    digits.write("another.yaml", "")  # and what was refused is not there any more
    digits.calls(DIGITS, 20).assert_ok()


def test_who_calls_has_to_be_clear(tmp_path: Path) -> None:
    second = CALLER.replace("name: gateway", "name: batch")
    with running(folder(tmp_path / "istio", all=joined(SERVICE, CALLER, second, *COPIES))) as mesh:
        with pytest.raises(LookupError, match=r"who calls\? Name a workload by `via`: batch\.infer, gateway\.infer, "):
            mesh.call(DIGITS)
        assert mesh.call(DIGITS, via="batch").status is OK


def test_two_workloads_of_one_name(tmp_path: Path) -> None:
    texts = [text.replace("models", "more") for text in (SERVICE, copy("one", "v9", 8101))]
    with running(folder(tmp_path / "istio", all=joined(SERVICE, CALLER, COPIES[0], *texts))) as mesh:
        assert mesh.call(DIGITS).worker is mesh.workers["one.models"]
        assert mesh.call(DIGITS.replace("models", "more")).worker is mesh.workers["one.more"]
        with pytest.raises(KeyError, match="more than one workload one"):
            mesh.call_in_plain_text("one")


def test_a_call_for_no_service(digits: Mesh) -> None:
    call = digits.call("digits.models.svc.cluster.local:9999")
    assert (call.status, call.details) == (UNAVAILABLE, "no service of this mesh has that host and port")


def test_a_stand_in_is_where_no_real_process_is(tmp_path: Path) -> None:
    with listening() as port:
        files = folder(tmp_path / "istio", all=joined(SERVICE, CALLER, copy("one", "v1", port)))
        with running(files) as mesh:
            assert mesh.call(DIGITS).worker is mesh.workers["one"]


def test_the_meshs_own_settings(tmp_path: Path) -> None:
    (tmp_path / "mesh.yaml").write_text("trustDomain: example.org\n")
    files = folder(tmp_path / "istio", all=joined(SERVICE, STRICT, CALLER, COPIES[0]))
    with running(files, mesh_config=tmp_path / "mesh.yaml") as mesh:
        assert mesh.call(DIGITS).status is OK
        shown = mesh.workers["one"].requests[-1].headers["x-forwarded-client-cert"]
        assert "URI=spiffe://example.org/ns/infer/sa/gateway" in str(shown)


def test_tokens(tmp_path: Path) -> None:
    issuer = Issuer()
    policy = f"""
apiVersion: security.istio.io/v1
kind: RequestAuthentication
metadata: {{name: tokens, namespace: models}}
spec: {{jwtRules: [{{issuer: "{issuer.name}", jwks: '{issuer.jwks().decode()}'}}]}}
"""
    with running(folder(tmp_path / "istio", all=joined(SERVICE, CALLER, COPIES[0], policy))) as mesh:
        assert mesh.call(DIGITS, authorization=f"Bearer {issuer.token()}").status is OK
        assert mesh.call(DIGITS, authorization="Bearer x.y.z").status is grpc.StatusCode.UNAUTHENTICATED


def test_nothing_is_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(scratch))
    before = len(psutil.Process(os.getpid()).children(recursive=True))
    with running(folder(tmp_path / "istio", all=ALL)) as mesh:
        mesh.calls(DIGITS, 10).assert_ok()
        assert len(psutil.Process(os.getpid()).children(recursive=True)) == before + 4
        assert [*scratch.iterdir()]
    assert len(psutil.Process(os.getpid()).children(recursive=True)) == before
    assert not [*scratch.iterdir()]
