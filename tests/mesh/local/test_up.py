"""A local mesh under load, among stand-ins: what changes, and who dies, without a failed call."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import http.client
import re
import shutil
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import grpc
import pytest

from mesh.istio.document import RefusedError
from mesh.istio.mesh_config import MeshConfig
from mesh.local import config as compiling
from mesh.local import fleet, process, sidecar
from mesh.local import up as module
from mesh.local.config import Config
from mesh.local.failure import MeshError, PassingError
from mesh.local.keys import Pace
from mesh.local.plan import Gateway, Plan
from mesh.local.up import Options, Watcher
from mesh.local.up import running as up
from mesh.testing import Mesh, mesh, running
from mesh.testing.caller import Asked, Caller
from mesh.testing.thread import beside
from tests.envoy import needs_envoy
from tests.gateway.tokens import Issuer
from tests.mesh.local.issuer import serving
from tests.mesh.local.scene import (
    CALLER,
    COPIES,
    DIGITS,
    GATEWAY_ALONE,
    ROUTES,
    SERVICE,
    STRICT,
    certificate_at,
    copy,
    envoy_of,
    envoys_at,
    eventually,
    folder,
    in_force,
    joined,
    page,
    weighed,
)

pytestmark = [needs_envoy, pytest.mark.timeout(120)]

OK, DENIED, UNAVAILABLE = grpc.StatusCode.OK, grpc.StatusCode.PERMISSION_DENIED, grpc.StatusCode.UNAVAILABLE
POLICIES = joined(STRICT, GATEWAY_ALONE)
NOBODY = """
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: nobody, namespace: models}
spec: {action: DENY, rules: [{}]}
"""


def laid_out(path: Path) -> Path:
    return folder(path, service=SERVICE, routes=ROUTES, policies=POLICIES, copies=joined(CALLER, *COPIES))


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mesh]:
    with running(laid_out(tmp_path_factory.mktemp("mesh") / "istio")) as made:
        yield made


@pytest.fixture
def as_before(digits: Mesh) -> Iterator[Mesh]:
    """The mesh of this module, and afterwards as it was."""
    yield digits
    for name, text in (("copies", joined(CALLER, *COPIES)), ("routes", ROUTES), ("policies", POLICIES)):
        digits.write(f"{name}.yaml", text)
    for worker in digits.workers.values():
        worker.start()
        worker.answers()
    eventually(lambda: set(digits.calls(DIGITS, 50).statuses) == {OK}, "that all is well again")


def everything(one: Mesh) -> list[dict[str, Any]]:
    return [asyncio.run(in_force(sidecar.address)) for sidecar in one.sidecars.values()]


@contextlib.contextmanager
def kept_up(
    tmp_path: Path, told: list[str], in_force: Callable[[Plan], object] = lambda _: None, **options: Any
) -> Iterator[tuple[Path, Future[None]]]:
    """A mesh of one worker that keeps up with its folder, in `place`: the folder, and what keeps it up."""
    here, place = folder(tmp_path / "istio", all=joined(SERVICE, CALLER, copy("one", "v1", 8101))), tmp_path / "place"
    place.mkdir()
    made = Options(here, mesh.find(None), MeshConfig(), Gateway(), **{"lifetime": timedelta(hours=1), **options})
    with beside(up(made, place, Watcher(lambda _: None, in_force, told.append))) as lived:
        keeping = asyncio.run_coroutine_threadsafe(lived.value.keep(), lived.loop)
        try:
            yield here, keeping
        finally:
            keeping.cancel()


# ---- changes ----


def test_weights_shift_without_a_failed_call(as_before: Mesh) -> None:
    as_before.calls(DIGITS, 1000).assert_share(0.1, version="v2")
    with as_before.calling(DIGITS) as calls:
        for weight in (50, 0, 100, 50):
            as_before.write("routes.yaml", weighed(weight))
            as_before.calls(DIGITS, 200).assert_share(1 - weight / 100, version="v2")
    calls.assert_ok()


def test_a_subset_and_its_worker_come_and_go_without_a_failed_call(as_before: Mesh) -> None:
    more = ROUTES.replace("subsets: [", "subsets: [{name: v3, labels: {version: v3}}, ").replace("v2}, w", "v3}, w")
    assert more.count("v3") == 3
    with as_before.calling(DIGITS) as calls:
        for _ in range(2):
            as_before.write("copies.yaml", joined(CALLER, *COPIES, copy("new", "v3", 8104)))
            as_before.write("routes.yaml", more)
            as_before.calls(DIGITS, 300).assert_share(0.1, version="v3")
            as_before.write("routes.yaml", ROUTES)
            as_before.write("copies.yaml", joined(CALLER, *COPIES))
    calls.assert_ok()
    assert calls.answered_by(version="v3") > 0


def test_workers_come_and_go_without_a_failed_call(as_before: Mesh) -> None:
    few, many = joined(CALLER, COPIES[0], COPIES[2]), joined(CALLER, *COPIES, copy("more", "v1", 8104))
    with as_before.calling(DIGITS) as calls:
        for _ in range(3):
            for text in (few, many):
                as_before.write("copies.yaml", text)
                seen = as_before.calls(DIGITS, 100)
                seen.assert_ok()
                assert ("more.models" in seen.workers) is (text == many)
    calls.assert_ok()


@pytest.mark.parametrize(
    ("file", "before", "after"),
    [
        ("routes", "timeout: 5s", "timeout: 6s"),
        ("routes", "baseEjectionTime: 60s", "baseEjectionTime: 61s"),
        ("policies", "mode: STRICT", "mode: PERMISSIVE"),
        ("policies", "sa/gateway]", "sa/gateway, cluster.local/ns/infer/sa/other]"),
        ("copies", "serviceAccount: digits", "serviceAccount: other"),
    ],
)
def test_it_changes_back_and_forth_without_a_failed_call(file: str, before: str, after: str, as_before: Mesh) -> None:
    text = {"routes": ROUTES, "policies": POLICIES, "copies": joined(CALLER, *COPIES)}[file]
    assert before in text
    with as_before.calling(DIGITS) as calls:
        for each in (text.replace(before, after), text) * 2:
            as_before.write(f"{file}.yaml", each)
            as_before.calls(DIGITS, 20).assert_ok()
    calls.assert_ok()


def denied_from_now_on(one: Mesh) -> bool:
    """Whether no call gets in any more, as soon as a policy is in force that lets nobody in."""
    one.calls(DIGITS, 50).assert_ok()
    one.write("policies.yaml", joined(POLICIES, NOBODY))
    return set(one.calls(DIGITS, 50).statuses) == {DENIED}


def test_a_policy_holds_from_the_next_call_on(as_before: Mesh) -> None:
    assert denied_from_now_on(as_before)


def test_if_callers_did_not_connect_anew_it_would_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fleet, "reconnected", lambda config, _marks: config)
    with running(laid_out(tmp_path / "istio")) as made:
        assert not denied_from_now_on(made)


def goes_on(one: Mesh) -> bool:
    """Whether one who is not of the mesh, and stays connected, gets in when nobody may any more."""
    one.write("policies.yaml", STRICT.replace("STRICT", "PERMISSIVE"))
    sidecar = one.sidecars["one"]
    stranger = Caller(f"{sidecar.address}:{sidecar.ports[0]}", DIGITS, lambda _: None)
    try:
        assert stranger.call(Asked()).status is OK
        one.write("policies.yaml", joined(STRICT.replace("STRICT", "PERMISSIVE"), NOBODY))
        return stranger.calls(Asked(), 50, 1).all[-1].status is OK
    finally:
        stranger.close()


def test_nor_do_others_go_on_for_long(as_before: Mesh) -> None:
    assert not goes_on(as_before)


def test_if_envoy_drained_connections_slowly_they_would(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process, "_DRAIN", ())
    with running(laid_out(tmp_path / "istio")) as made:
        assert goes_on(made)


def test_strict_is_strict(as_before: Mesh) -> None:
    assert as_before.call_in_plain_text("one").status is UNAVAILABLE
    as_before.write("policies.yaml", STRICT.replace("STRICT", "PERMISSIVE"))
    assert as_before.call_in_plain_text("one").status is OK


def removed_while_it_answers(one: Mesh) -> grpc.StatusCode:
    """What becomes of a call to a worker that is taken away meanwhile."""
    canary = one.worker(version="v2")
    canary.answers(after=1.0)
    one.write("routes.yaml", weighed(0))
    before, outcome = len(canary.requests), list[grpc.StatusCode]()
    caller = threading.Thread(target=lambda: outcome.append(one.call(DIGITS).status))
    caller.start()
    eventually(lambda: len(canary.requests) > before, "that it is called")
    one.write("routes.yaml", weighed(100))
    one.write("copies.yaml", joined(CALLER, *COPIES[:2]))
    one.calls(DIGITS, 20).assert_ok()
    caller.join()
    return outcome[0]


def test_the_calls_of_a_worker_that_is_removed_run_to_their_end(as_before: Mesh) -> None:
    address = as_before.sidecars["canary"].address
    assert removed_while_it_answers(as_before) is OK
    eventually(lambda: not envoys_at(address), "that its sidecar ends then")


def test_if_its_sidecar_did_not_wait_they_would_not(as_before: Mesh, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sidecar, "_STILL", 0)
    assert removed_while_it_answers(as_before) is not OK


# ---- what cannot be used ----


def test_what_cannot_be_compiled_is_told_with_its_line_and_changes_nothing(as_before: Mesh) -> None:
    before = everything(as_before)
    with as_before.calling(DIGITS) as calls, pytest.raises(RefusedError) as refused:
        as_before.write("routes.yaml", ROUTES.replace("timeout: 5s", "timeout: soon"))
    (mistake,) = refused.value.mistakes
    assert "routes.yaml:8: VirtualService models/digits: spec.http[0].timeout" in mistake
    calls.assert_ok()
    assert everything(as_before) == before


def test_what_an_envoy_refuses_is_told_in_its_words_and_changes_nothing(
    as_before: Mesh, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = everything(as_before)
    compiled = compiling.config

    def spoilt(world: Any, workload: Any, calls_at: Any) -> Config:
        """For one of the workers, with a cluster that no Envoy takes."""
        made = compiled(world, workload, calls_at)
        bad = {"name": "bad", "alt_stat_name": "bad;", "type": "STATIC", "lb_policy": "CLUSTER_PROVIDED"}
        return replace(made, clusters=(*made.clusters, bad)) if workload.proxy.name == "two" else made

    monkeypatch.setattr("mesh.local.plan.config", spoilt)
    with as_before.calling(DIGITS) as calls:
        with pytest.raises(MeshError, match=r"two\.models: Envoy refuses it: .*cluster provided LB specified but"):
            as_before.write("routes.yaml", ROUTES.replace("timeout: 5s", "timeout: 7s"))
        assert everything(as_before) == before
        monkeypatch.undo()
        as_before.write("routes.yaml", ROUTES.replace("timeout: 5s", "timeout: 7s"))
        assert everything(as_before) != before
    calls.assert_ok()


def test_an_envoy_that_is_killed_is_started_anew_and_takes_calls_again(as_before: Mesh) -> None:
    as_before.write("copies.yaml", joined(CALLER, COPIES[0]))
    never_ejected = "\n".join(line for line in weighed(100).splitlines() if "outlierDetection" not in line)
    as_before.write("routes.yaml", never_ejected)
    for name in ("one", "gateway"):
        killed = envoy_of(as_before.sidecars[name])
        told = len(as_before.told)
        killed.kill()
        eventually(lambda: as_before.call(DIGITS, timeout=1).status is OK, f"that {name} takes calls again")
        assert envoy_of(as_before.sidecars[name]).pid != killed.pid
        assert [words.partition(" was killed by signal 9")[0] for words in as_before.told[told:]] == [
            f"the Envoy beside {name}.{'infer' if name == 'gateway' else 'models'}"
        ]


# ---- certificates ----


def test_certificates_are_renewed_ten_times_without_a_failed_call(as_before: Mesh) -> None:
    one = as_before.sidecars["one"]
    serials = {certificate_at(one).serial_number}
    assert certificate_at(one).serial_number in serials
    with as_before.calling(DIGITS) as calls:
        for _ in range(10):
            as_before.renew_certificates()
            serials.add(eventually(lambda: {certificate_at(one).serial_number} - serials, "a new one").pop())
            as_before.calls(DIGITS, 20).assert_ok()
    calls.assert_ok()
    assert len(serials) == 11


class Clock:
    """Tells the time, and can be moved."""

    def __init__(self) -> None:
        self.ahead = timedelta()

    def __call__(self) -> datetime:
        return datetime.now(UTC) + self.ahead


@dataclasses.dataclass
class ByHand:
    """A mesh put together without stand-ins, whose clock and pace are chosen."""

    clock: Clock
    lifetime: timedelta = timedelta(hours=1)
    pace: Pace = Pace()  # noqa: RUF009 - it is frozen

    def options(self, *arguments: Any, **more: Any) -> Options:
        made = Options(*arguments, **more)
        return replace(made, clock=self.clock, lifetime=self.lifetime, pace=self.pace)


def test_a_certificate_whose_time_is_over_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    by_hand = ByHand(Clock())
    by_hand.clock.ahead = timedelta(hours=-2)
    monkeypatch.setattr(mesh, "Options", by_hand.options)
    with running(laid_out(tmp_path / "istio")) as made:
        assert made.call(DIGITS).status is UNAVAILABLE
        told = asyncio.run(page(made.sidecars["gateway"].address, "stats", filter="ssl.fail_verify_error"))
        assert sum(int(line.rpartition(": ")[2]) for line in told.splitlines()) > 0
        by_hand.clock.ahead = timedelta()
        made.renew_certificates()
        eventually(lambda: made.call(DIGITS).status is OK, "that a new one is taken")


def test_certificates_are_renewed_in_time_also_when_the_clock_jumps(tmp_path: Path) -> None:
    clock, place = Clock(), tmp_path / "place"
    told: list[str] = []
    with kept_up(tmp_path, told, clock=clock) as (_, keeping):
        file = next(place.glob("one.models@*/certificate.json"))
        before = file.read_text()
        clock.ahead = timedelta(minutes=31)
        eventually(lambda: file.read_text() != before, "that it is renewed")
        again = file.read_text()
        clock.ahead = timedelta(hours=-3)
        eventually(lambda: file.read_text() != again, "that it is renewed")
        shutil.rmtree(place)
        clock.ahead = timedelta()
        eventually(lambda: told, "that it is told")
        assert re.match(f"certificates cannot be renewed: {place}/.*: No such file or directory\n", told[0])
        assert not keeping.done()


def test_nobody_can_change_a_sidecar_by_its_admin_pages(as_before: Mesh) -> None:
    """Every user of the machine can ask there, and every web page in a browser."""
    admin = as_before.sidecars["one"].admin

    def asked(path: str, **how: Any) -> int:
        with contextlib.closing(http.client.HTTPConnection(admin, timeout=10)) as connection:
            connection.request(how.get("method", "GET"), path)
            return connection.getresponse().status

    changing = ("quitquitquit", "drain_listeners", "logging?level=trace", "healthcheck/fail", "reset_counters")
    assert {path: asked(f"/{path}", method="POST") for path in changing} == dict.fromkeys(changing, 403)
    for path in ("stats", "config_dump", "clusters", "ready", "certs", "listeners", "server_info", "stats/prometheus"):
        assert asked(f"/{path}") == 200, path


# ---- what may pass ----


def test_a_defect_of_ours_takes_no_mesh_down(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[str] = []
    with kept_up(tmp_path, told) as (here, _):
        with monkeypatch.context() as patch:
            patch.setattr(module, "plan", lambda *_: {}["not there"])
            folder(here, more=STRICT)
            eventually(lambda: told, "that it is told")
        assert told[0].startswith("the folder cannot be used, and what was before stays: this is a defect of headrace")
        folder(here, more=STRICT + "# again\n")
        eventually(lambda: told[-1].startswith("the folder: in force"), "that the next change is in force")


def test_what_could_not_be_done_but_may_be_later_is_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_AGAIN", 0.05)
    told: list[str] = []
    plans: list[Any] = []
    carry_out = fleet.Fleet.carry_out
    failures = [PassingError("a is late"), PassingError("a is late"), PassingError("b is late"), MeshError("no")]

    async def failing(self: fleet.Fleet, planned: Plan) -> None:
        if plans and failures:
            raise failures.pop(0)
        await carry_out(self, planned)

    monkeypatch.setattr(fleet.Fleet, "carry_out", failing)
    with kept_up(tmp_path, told, plans.append) as (here, _):
        folder(here, more=STRICT)
        eventually(lambda: not failures, "that it has been tried four times")
        cannot = "the folder cannot be used, and what was before stays:"
        late = [f"{cannot} {which} is late\n  it is tried again" for which in "ab"]
        eventually(lambda: told == [*late, f"{cannot} no"], "that it is told, each once")
        assert len(plans) == 1
        folder(here, more=STRICT + "# again\n")
        eventually(lambda: len(plans) == 2 and len(told) == 4, "that another change is in force")
        assert told[3].startswith("the folder: in force after ")


def test_what_is_gone_is_told(as_before: Mesh) -> None:
    """An empty file opens the workers; whoever did not mean it must see it."""
    as_before.write("policies.yaml", "")
    assert as_before.told[-1] == "gone: AuthorizationPolicy models/digits, PeerAuthentication models/default"


def test_certificates_that_cannot_be_renewed_are_told_and_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The disk is full: what is there is good for a while, and that is no time to end."""
    monkeypatch.setattr(module, "_LOOK", 0.05)
    told: list[str] = []
    renew = fleet.Fleet.renew
    failures = [OSError(28, "No space left on device")] * 3

    def failing(self: fleet.Fleet) -> None:
        if failures:
            raise failures.pop(0)
        renew(self)

    monkeypatch.setattr(fleet.Fleet, "renew", failing)
    with kept_up(tmp_path, told, lifetime=timedelta(seconds=2)) as (_, keeping):
        eventually(lambda: len(told) == 2, "that they are renewed")
        assert not keeping.done()
    assert re.fullmatch(
        r"certificates cannot be renewed: No space left on device\n"
        r"  those that are there are good until \d\d:\d\d:\d\d; it is tried again",
        told[0],
    )
    assert told[1] == "certificates are renewed again"


def test_what_cannot_be_told_to_others_is_in_force_none_the_less(tmp_path: Path) -> None:
    def full(_: Plan) -> None:
        raise OSError(28, "No space left on device", "state.json")

    told: list[str] = []
    with kept_up(tmp_path, told, full):
        assert told == ["it is in force, but not everyone can be told: state.json: No space left on device"]


# ---- keys ----

TOKENS = """
apiVersion: security.istio.io/v1
kind: RequestAuthentication
metadata: {name: tokens, namespace: models}
spec: {jwtRules: [RULE]}
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: tokens, namespace: models}
spec: {rules: [{from: [{source: {requestPrincipals: ["*"]}}]}]}
"""


def test_tokens_are_refused_until_their_issuer_is_up_and_another_key_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mesh, "Options", ByHand(Clock(), pace=Pace(refresh=0.02, retry=0.02)).options)
    with serving() as server:
        by_uri, by_discovery = Issuer("https://uri.example/"), Issuer(server.address)
        rule = f'{{issuer: "{by_uri.name}", jwksUri: "{server.address}/uri"}}, {{issuer: "{server.address}"}}'
        here = folder(tmp_path / "istio", all=joined(SERVICE, ROUTES, CALLER, *COPIES, TOKENS.replace("RULE", rule)))

        def status(issuer: Issuer) -> grpc.StatusCode:
            return made.call(DIGITS, authorization=f"Bearer {issuer.token()}").status

        with running(here) as made:
            assert made.call(DIGITS).status is DENIED
            for issuer in (by_uri, by_discovery):
                assert status(issuer) is grpc.StatusCode.UNAUTHENTICATED
            server.serve(by_discovery)
            server.documents["/uri"] = by_uri.jwks()
            for issuer in (by_uri, by_discovery):
                eventually(lambda: status(issuer) is OK, "that its keys are there")  # noqa: B023 - it is called at once
            old = Issuer(by_uri.name)
            old.private = by_uri.private
            by_uri.rotate("k2")
            assert status(by_uri) is grpc.StatusCode.UNAUTHENTICATED
            server.documents["/uri"] = by_uri.jwks()
            eventually(lambda: status(by_uri) is OK, "that the new key is there")
            eventually(lambda: status(old) is grpc.StatusCode.UNAUTHENTICATED, "that the old key is gone")
        assert len(made.told) >= 2  # each issuer was away


def test_another_key_is_found_while_the_folder_cannot_be_used(tmp_path: Path) -> None:
    with serving() as server:
        issuer = Issuer("https://uri.example/")
        rule = f'{{issuer: "{issuer.name}", jwksUri: "{server.address}/uri"}}'
        server.documents["/uri"] = issuer.jwks()
        here = folder(tmp_path / "istio", all=joined(SERVICE, ROUTES, CALLER, *COPIES, TOKENS.replace("RULE", rule)))
        (tmp_path / "place").mkdir()
        told: list[str] = []
        pace = Pace(refresh=0.02, retry=0.02)
        options = Options(here, mesh.find(None), MeshConfig(), Gateway(), timedelta(hours=1), pace=pace)
        with beside(up(options, tmp_path / "place", Watcher(lambda _: None, lambda _: None, told.append))) as lived:
            keeping = asyncio.run_coroutine_threadsafe(lived.value.keep(), lived.loop)
            folder(here, more="spec: [")
            eventually(lambda: [each for each in told if "the folder cannot be used" in each], "that it is told")
            issuer.rotate("k2")
            server.documents["/uri"] = issuer.jwks()
            eventually(lambda: [each for each in told if each.startswith("an issuer's keys: in force")], "the new keys")
            keeping.cancel()
