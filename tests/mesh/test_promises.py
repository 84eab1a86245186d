"""What the mesh promises, on real Envoys: shares, retries and their budget, ejection and return, limits, shadows.

The resources are such as people write; those that `mesh render` writes are put in force in tests/mesh/render.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from grpc import StatusCode

from mesh.testing import Mesh, running
from tests.envoy import needs_envoy

pytestmark = needs_envoy

DIGITS = "digits.models.svc.cluster.local:8001"
ONE_EACH = {DIGITS: [{"version": "v1"}, {"version": "v2"}]}
PAIR = {DIGITS: [{"version": "v1"}, {"version": "v1"}]}

CANARY = """
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: digits, namespace: models}
spec:
  hosts: [digits]
  http:
  - route:
    - {destination: {host: digits, subset: v1}, weight: 90}
    - {destination: {host: digits, subset: v2}, weight: 10}
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: digits, namespace: models}
spec:
  host: digits
  subsets: [{name: v1, labels: {version: v1}}, {name: v2, labels: {version: v2}}]
"""


def policies(retries: str, policy: str = "") -> str:
    """A VirtualService with these retries, and a DestinationRule with this policy."""
    rule = f"""
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {{name: digits, namespace: models}}
spec: {{host: digits, trafficPolicy: {policy}}}
"""
    return f"""
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {{name: digits, namespace: models}}
spec:
  hosts: [digits]
  http: [{{retries: {retries}, route: [{{destination: {{host: digits}}}}]}}]
{rule if policy else ""}"""


@pytest.fixture
def put_up(tmp_path: Path) -> Iterator[Callable[..., Mesh]]:
    """A mesh of a text."""
    from contextlib import ExitStack

    with ExitStack() as stack:

        def up(text: str, services: dict[str, list[dict[str, str]]]) -> Mesh:
            folder = tmp_path / "istio"
            folder.mkdir()
            (folder / "policies.yaml").write_text(text)
            return stack.enter_context(running(folder, services=services))

        yield up


@pytest.fixture(scope="module")
def trying(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mesh]:
    yield from one_for_all(tmp_path_factory, policies("{attempts: 2, retryOn: 'unavailable,resource-exhausted'}"))


@pytest.fixture(scope="module")
def ejecting(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mesh]:
    yield from one_for_all(tmp_path_factory, policies("{attempts: 0}", EJECTION))


def one_for_all(factory: pytest.TempPathFactory, text: str) -> Iterator[Mesh]:
    """A mesh of two copies for tests that leave nothing in it."""
    folder = factory.mktemp("istio")
    (folder / "policies.yaml").write_text(text)
    with running(folder, services=PAIR) as mesh:
        yield mesh


def requests(mesh: Mesh) -> int:
    return sum(len(worker.requests) for worker in mesh.workers.values())


def until(condition: Callable[[], bool], within: float = 20.0) -> float:
    began = time.monotonic()
    while not condition():
        assert time.monotonic() - began < within, "waited in vain"
        time.sleep(0.02)
    return time.monotonic() - began


def test_weights_over_five_thousand_calls(put_up: Callable[..., Mesh]) -> None:
    calls = put_up(CANARY, ONE_EACH).calls(DIGITS, 5000, at_once=16)
    calls.assert_ok()
    calls.assert_share(0.10, version="v2")
    with pytest.raises(AssertionError):
        calls.assert_share(0.15, version="v2")  # what the test would find if the weights were not these


@pytest.mark.parametrize(
    ("status", "tries"),
    [
        (StatusCode.UNAVAILABLE, 3),
        (StatusCode.RESOURCE_EXHAUSTED, 3),
        (StatusCode.INVALID_ARGUMENT, 1),
        (StatusCode.INTERNAL, 1),
        (StatusCode.NOT_FOUND, 1),
    ],
)
def test_what_is_listed_is_tried_again_and_nothing_else(trying: Mesh, status: StatusCode, tries: int) -> None:
    for worker in trying.workers.values():
        worker.requests.clear()
        worker.answers(status)
    assert trying.call(DIGITS).status is status
    assert requests(trying) == tries
    assert all(len(worker.requests) <= 2 for worker in trying.workers.values())  # at another copy, while there is one


def test_a_retry_saves_the_call(put_up: Callable[..., Mesh]) -> None:
    mesh = put_up(policies("{attempts: 4, retryOn: unavailable}"), PAIR)  # another copy is likely, not certain
    next(iter(mesh.workers.values())).answers(StatusCode.UNAVAILABLE)
    mesh.calls(DIGITS, 100, at_once=1).assert_ok()
    assert requests(mesh) > 100


BUDGET = "{retryBudget: {percent: 20, minRetryConcurrency: 3}}"


@pytest.mark.parametrize("at_once", [16, 64])  # of fewer, the three that may always run are more than 20 %
def test_retries_stay_within_their_budget_when_every_copy_fails(put_up: Callable[..., Mesh], at_once: int) -> None:
    mesh = put_up(policies("{attempts: 2, retryOn: unavailable}", BUDGET), PAIR)
    for worker in mesh.workers.values():
        worker.answers(StatusCode.UNAVAILABLE)
    calls = mesh.calls(DIGITS, 1000, at_once=at_once)
    assert calls.statuses == {StatusCode.UNAVAILABLE: 1000}
    assert 1000 < requests(mesh) <= 1.2 * 1000 + 3


def test_without_a_budget_they_are_an_avalanche(put_up: Callable[..., Mesh]) -> None:
    mesh = put_up(policies("{attempts: 2, retryOn: unavailable}"), PAIR)
    for worker in mesh.workers.values():
        worker.answers(StatusCode.UNAVAILABLE)
    mesh.calls(DIGITS, 300, at_once=16)
    assert requests(mesh) == 900


EJECTION = (
    "{outlierDetection: {consecutive5xxErrors: 4, interval: 200ms, baseEjectionTime: 1s, maxEjectionPercent: 50}}"
)


def test_the_fourth_failure_ejects_and_the_copy_returns(put_up: Callable[..., Mesh]) -> None:
    mesh = put_up(policies("{attempts: 0}", EJECTION), PAIR)
    bad, good = mesh.workers.values()
    bad.answers(StatusCode.INTERNAL)
    calls = mesh.calls(DIGITS, 200, at_once=1)
    assert len(bad.requests) == 4
    assert calls.statuses[StatusCode.INTERNAL] == 4
    assert len(good.requests) == 196
    bad.answers()

    def back() -> bool:
        mesh.call(DIGITS)
        return len(bad.requests) > 4

    until(back)
    mesh.calls(DIGITS, 50, at_once=1).assert_ok()


def test_without_ejection_a_bad_copy_keeps_its_calls(put_up: Callable[..., Mesh]) -> None:
    mesh = put_up(policies("{attempts: 0}"), PAIR)
    bad, _ = mesh.workers.values()
    bad.answers(StatusCode.INTERNAL)
    mesh.calls(DIGITS, 200, at_once=1)
    assert len(bad.requests) > 40


@pytest.mark.parametrize("status", [StatusCode.INVALID_ARGUMENT, StatusCode.RESOURCE_EXHAUSTED, StatusCode.NOT_FOUND])
def test_what_is_the_callers_fault_or_overload_ejects_no_one(ejecting: Mesh, status: StatusCode) -> None:
    refusing, _ = ejecting.workers.values()
    refusing.requests.clear()
    refusing.answers(status)
    ejecting.calls(DIGITS, 100, at_once=1)
    assert len(refusing.requests) > 20


def test_what_a_request_can_provoke_need_not_eject(put_up: Callable[..., Mesh]) -> None:
    """`ejection: {count: gateway}`: a model says INTERNAL to a request it does not bear; UNAVAILABLE is the copy's."""
    counting = EJECTION.replace("consecutive5xxErrors: 4", "consecutive5xxErrors: 0, consecutiveGatewayErrors: 4")
    mesh = put_up(policies("{attempts: 0}", counting), PAIR)
    bad, _ = mesh.workers.values()
    for status in (StatusCode.INTERNAL, StatusCode.UNIMPLEMENTED, StatusCode.UNKNOWN):
        bad.answers(status)
        mesh.calls(DIGITS, 40, at_once=1)
    assert len(bad.requests) > 30
    before = len(bad.requests)
    bad.answers(StatusCode.UNAVAILABLE)
    mesh.calls(DIGITS, 100, at_once=1)
    assert len(bad.requests) == before + 4


def test_no_more_than_half_of_the_copies_are_ejected(put_up: Callable[..., Mesh]) -> None:
    mesh = put_up(policies("{attempts: 0}", EJECTION), PAIR)
    for worker in mesh.workers.values():
        worker.answers(StatusCode.INTERNAL)
    calls = mesh.calls(DIGITS, 100, at_once=1)
    assert calls.statuses == {StatusCode.INTERNAL: 100}  # a copy answered each: nobody was left without any


def test_over_the_breaker_a_call_is_refused_at_once(put_up: Callable[..., Mesh]) -> None:
    limits = "{connectionPool: {http: {http2MaxRequests: 2, http1MaxPendingRequests: 2}}}"
    mesh = put_up(policies("{attempts: 2, retryOn: unavailable}", limits), PAIR)
    for worker in mesh.workers.values():
        worker.answers(after=1.5)
    with ThreadPoolExecutor(1) as pool:
        held = pool.submit(mesh.calls, DIGITS, 2, at_once=2)
        until(lambda: requests(mesh) == 2)
        refused = mesh.call(DIGITS)
        held.result().assert_ok()
    assert refused.status is StatusCode.UNAVAILABLE
    assert refused.details.endswith("reset reason: overflow")
    assert refused.worker is None
