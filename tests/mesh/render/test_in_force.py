"""The rendered files in force, on real Envoys with stand-ins for the workers. Needs the `envoy` of the extra `mesh`."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import grpc
import pytest

from mesh.render.files import render
from mesh.testing import Mesh, running
from mesh.testing.caller import INFER
from mesh.testing.calls import interval
from tests.gateway.tokens import Issuer
from tests.mesh.render.rendered import CATALOGS, source
from tests.mesh.render.test_in_envoy import ENVOY

OK, UNAVAILABLE, INVALID = grpc.StatusCode.OK, grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.INVALID_ARGUMENT
DENIED, UNIMPLEMENTED = grpc.StatusCode.PERMISSION_DENIED, grpc.StatusCode.UNIMPLEMENTED
STREAM = "/inference.GRPCInferenceService/ModelStreamInfer"
HEALTH = "/grpc.health.v1.Health/Check"
DIGITS, TRITON = "digits.models.svc.cluster.local:8001", "triton.models.svc.cluster.local:8001"

pytestmark = [pytest.mark.timeout(180), pytest.mark.skipif(ENVOY is None, reason="no envoy")]


def eventually(condition: Callable[[], bool]) -> bool:
    """Whether it holds within ten seconds."""
    deadline = time.monotonic() + 10
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.01)
    return condition()


def of(name: str) -> Path:
    return next(path for path in CATALOGS if path.name == name) / "istio"


@pytest.fixture(scope="module")
def canary() -> Iterator[Mesh]:
    with running(of("canary")) as mesh:
        yield mesh


@pytest.fixture
def all_well(canary: Mesh) -> Iterator[Mesh]:
    yield canary
    for worker in canary.workers.values():
        worker.answers()


def test_calls_that_name_no_version_are_shared_by_weight(canary: Mesh) -> None:
    for method in (INFER, STREAM):
        calls = canary.calls(DIGITS, 1000, method, x_model_name="digits")
        calls.assert_ok()
        calls.assert_share(0.9, version="v1")
        calls.assert_share(0.1, version="v2")


def test_a_call_that_names_a_version_gets_it(canary: Mesh) -> None:
    for method in ("/inference.GRPCInferenceService/ModelMetadata", STREAM):
        calls = canary.calls(DIGITS, 50, method, x_model_name="digits", x_model_version="2")
        assert (calls.statuses, calls.answered_by(version="v2")) == ({OK: 50}, 50)


def test_what_is_tried_again(all_well: Mesh) -> None:
    (second,) = (worker for worker in all_well.workers.values() if worker.labels["version"] == "v2")
    for method, told, status, tries in (
        (INFER, UNAVAILABLE, OK, 2),
        (INFER, INVALID, INVALID, 1),
        (STREAM, UNAVAILABLE, UNAVAILABLE, 1),
    ):
        second.answers(told, times=1)
        second.requests.clear()
        assert all_well.call(DIGITS, method, x_model_version="2").status is status
        assert len(second.requests) == tries
        second.answers()


def test_a_worker_lets_the_gateway_in_for_inference_and_health_alone(canary: Mesh) -> None:
    assert canary.call(DIGITS, HEALTH).status is OK
    assert canary.call(DIGITS, "/inference.GRPCInferenceService/ModelReady").status is OK
    assert canary.call(DIGITS, "/grpc.reflection.v1.ServerReflection/Info").status is DENIED
    assert canary.call_in_plain_text(next(iter(canary.workers))).status is UNAVAILABLE


def test_and_nobody_else(canary: Mesh) -> None:
    worker = next(iter(canary.workers))
    assert canary.call(DIGITS, via=worker).status is DENIED


def test_without_the_policies_all_of_them_may() -> None:
    with running(of("canary")) as mesh:
        mesh.remove("AuthorizationPolicy", "digits")
        mesh.remove("PeerAuthentication", "digits")
        worker = next(iter(mesh.workers))
        assert mesh.call(DIGITS, "/grpc.reflection.v1.ServerReflection/Info").status is OK
        assert mesh.call(DIGITS, via=worker).status is OK
        assert mesh.call_in_plain_text(worker).status is OK


def test_a_shadow_gets_copies_of_calls_that_name_no_version_and_its_answers_reach_no_one() -> None:
    with running(of("shadow")) as mesh:
        (shadow,) = (worker for worker in mesh.workers.values() if worker.labels["version"] == "v3")
        shadow.answers(INVALID)
        mesh.calls(DIGITS, 50, x_model_version="1").assert_ok()
        mesh.calls(DIGITS, 50, STREAM).assert_ok()
        calls = mesh.calls(DIGITS, 1000, x_drawn="yes")
        calls.assert_ok()
        assert calls.answered_by(version="v3") == 0
        low, high = interval(1000, 0.25)
        assert eventually(lambda: len(shadow.requests) >= low)
        assert mesh.call(DIGITS, x_model_version="3", x_drawn="no").status is INVALID
        assert len(shadow.requests) <= high + 1
        assert {request.headers.get("x-drawn") for request in shadow.requests} == {"yes", "no"}


def test_a_sequence_stays_with_its_copy() -> None:
    with running(of("sequence")) as mesh:
        host = "speech.models.svc.cluster.local:8001"
        copies = [mesh.calls(host, 20, x_sequence_id=str(number)).workers for number in range(40)]
        assert all(len(workers) == 1 for workers in copies)
        assert len({name for workers in copies for name in workers}) == 2


def test_models_that_share_a_host() -> None:
    with running(of("shared")) as mesh:
        faces = mesh.calls(TRITON, 50, x_model_name="faces")
        assert (faces.statuses, faces.answered_by(pool="a100")) == ({OK: 50}, 50)
        words = mesh.calls(TRITON, 50, x_model_name="words")
        assert (words.statuses, words.answered_by(pool="l4")) == ({OK: 50}, 50)
        plates = mesh.calls(TRITON, 200, x_model_name="plates", x_model_version="4")
        assert (plates.statuses, set(plates.workers)) == ({OK: 200}, {*faces.workers, *words.workers})
        assert mesh.call(TRITON, x_model_name="unknown").status is UNIMPLEMENTED


def test_where_tokens_go_on_there_is_no_inference_without_a_good_one(tmp_path: Path) -> None:
    issuer, other = Issuer(), Issuer()
    (tmp_path / "keys.json").write_bytes(issuer.jwks())
    (tmp_path / "headrace.yaml").write_text(
        """
issuers: [{issuer: https://id.example/, audiences: [headrace], algorithms: [ES256], jwks: file:keys.json}]
models: [{name: digits, host: "digits.models:8001", versions: {"1": {}}, forward_token: true}]
upstream: {mode: mesh, proxy: 127.0.0.1:15001, endpoints: {digits: {"1": 127.0.0.1:8101}}}
"""
    )
    folder = tmp_path / "istio"
    folder.mkdir()
    for name, text in render(source(tmp_path), {}).items():
        (folder / name).write_text(text)
    with running(folder) as mesh:
        assert mesh.call(DIGITS).status is DENIED
        assert mesh.call(DIGITS, HEALTH).status is OK
        assert mesh.call(DIGITS, authorization=f"Bearer {other.token()}").status is grpc.StatusCode.UNAUTHENTICATED
        token = f"Bearer {issuer.token()}"
        call = mesh.call(DIGITS, authorization=token)
        assert call.status is OK
        assert call.worker is not None
        assert call.worker.requests[-1].headers["authorization"] == token
