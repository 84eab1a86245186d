"""`headrace mesh up` as a user runs it: a process of its own, real Envoys, signals."""

from __future__ import annotations

import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from ipaddress import ip_address
from pathlib import Path

import psutil
import pytest

from mesh.testing.caller import Asked, Caller
from tests.envoy import needs_envoy
from tests.headrace.mesh.up_scene import (
    OK,
    Copies,
    Up,
    called,
    command,
    environment,
    envoys_under,
    laid_out,
    listening_copies,
    replace,
    running,
    tried,
)
from tests.mesh.local.scene import (
    CALLER,
    DIGITS,
    ROUTES,
    SERVICE,
    copy,
    eventually,
    folder,
    joined,
    listening,
    weighed,
)

pytestmark = [needs_envoy, pytest.mark.timeout(120)]


@pytest.fixture(scope="module")
def copies() -> Iterator[Copies]:
    with listening_copies() as made:
        yield made


@pytest.fixture(scope="module")
def up(copies: Copies, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Up]:
    with running(laid_out(tmp_path_factory.mktemp("up") / "istio", copies)) as made:
        yield made


@pytest.fixture
def as_before(up: Up, copies: Copies) -> Iterator[Up]:
    """The one of this module, and afterwards its folder as it was."""
    yield up
    after = len(up.output)
    for path in up.folder.iterdir():
        path.unlink()
    laid_out(up.folder, copies)
    up.says("the folder: in force", after)


# ---- what is shown ----


def test_what_runs_is_shown_and_works(up: Up, copies: Copies) -> None:
    proxy = up.address
    *picture, identities, accounts, ready = up.printed.splitlines()[:8]
    assert ready == f"headrace mesh ready on {proxy}"
    assert identities == "identities are spiffe://cluster.local/ns/NAMESPACE/sa/ACCOUNT"
    assert accounts == "of infer/gateway, models/digits"
    rows = [re.split(r"\s{2,}", line.rstrip()) for line in picture]
    assert rows[0] == ["workload", "process", "sidecar"]
    assert [row[0] for row in rows[1:]] == ["infer/gateway", "models/canary", "models/one", "models/two"]
    assert rows[1][1] == f"calls {proxy}"
    for name, row in zip(("canary", "one", "two"), rows[2:], strict=True):
        (port,) = copies.workers[name]._ports
        assert row[1] == f"127.0.0.1:{port}"
        assert row[2].startswith("127.")
        assert row[2].endswith(f":{port}")
    assert all(len(line) <= 80 for line in up.printed.splitlines())
    called(up, copies).assert_ok()


def test_all_of_it_is_on_the_loopback(up: Up) -> None:
    assert up.address
    envoys = up.envoys
    assert len(envoys) == 4
    for envoy in envoys:
        at = [one.laddr for one in envoy.net_connections("inet") if one.status == psutil.CONN_LISTEN]
        assert {15000, 15001} <= {one.port for one in at}
        assert all(ip_address(one.ip).is_loopback for one in at)


def test_the_help_reads_well() -> None:
    done = subprocess.run([*command(), "-h"], env=environment(Path()), capture_output=True, text=True, check=True)
    assert all(len(line) <= 80 for line in done.stdout.splitlines())
    said = " ".join(done.stdout.split())
    assert "Run Istio resources on this machine: an Envoy beside each process, with mTLS between them." in said
    for option in ("--proxy", "--xds", "--gateway", "--mesh", "--lifetime", "--envoy"):
        assert option in said


# ---- changes ----


def test_a_change_is_in_force_within_a_second(as_before: Up, copies: Copies) -> None:
    """A file is replaced, and a loop of calls tells when another version answers."""
    caller = Caller(as_before.address, DIGITS, copies.worker)
    seconds, failed = [], 0
    try:
        for weight in (0, 100) * 3:
            wanted = "v1" if weight else "v2"
            replace(as_before.folder / "routes.yaml", weighed(weight))
            began = time.monotonic()
            while (call := caller.call(Asked())).worker is None or call.worker.labels["version"] != wanted:
                failed += call.status is not OK
                assert time.monotonic() - began < 10
            seconds.append(time.monotonic() - began)
    finally:
        caller.close()
    assert failed == 0
    assert sorted(seconds)[len(seconds) // 2] < 1.0, seconds  # the median: others use this machine, too
    assert as_before.says(r"the folder: in force after \d\.\d\d s$")


def test_a_mistake_is_told_with_its_line_and_what_was_stays(as_before: Up, copies: Copies) -> None:
    after = len(as_before.output)
    replace(as_before.folder / "routes.yaml", weighed(0).replace("timeout: 5s", "timeout: soon [really]"))
    told = as_before.says(r"the folder cannot be used, and what was before stays:\n  (.*)$", after)
    assert told[1].startswith(f"{as_before.folder}/routes.yaml:8: VirtualService models/digits: spec.http[0].timeout: ")
    assert "soon [really]" in told[1]
    calls = called(as_before, copies)
    calls.assert_ok()
    assert calls.answered_by(version="v2") == 0
    replace(as_before.folder / "routes.yaml", weighed(0))
    as_before.says("the folder: in force", after)
    assert called(as_before, copies).answered_by(version="v2") == 20


def broken_yaml(path: Path) -> None:
    replace(path, "spec: [")


def nowhere(path: Path) -> None:
    path.unlink()
    path.symlink_to("nowhere")


def latin(path: Path) -> None:
    path.write_bytes(b"# \xe4\n")


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (broken_yaml, r"extra\.yaml:1: "),
        (nowhere, r"extra\.yaml: cannot be read: No such file or directory"),
        (latin, r"extra\.yaml: cannot be read: not UTF-8"),
    ],
)
def test_what_cannot_be_read_is_told_with_its_file(spoil: object, words: str, as_before: Up, copies: Copies) -> None:
    after = len(as_before.output)
    (as_before.folder / "extra.yaml").touch()
    assert callable(spoil)
    spoil(as_before.folder / "extra.yaml")
    as_before.says(rf"the folder cannot be used, and what was before stays:\n  {as_before.folder}/{words}", after)
    called(as_before, copies).assert_ok()


def test_a_folder_that_is_taken_away_changes_nothing_until_it_is_back(as_before: Up, copies: Copies) -> None:
    after = len(as_before.output)
    away = as_before.folder.rename(as_before.folder.with_name("away"))
    as_before.says(r"the folder cannot be used, and what was before stays: .*No such file or directory", after)
    called(as_before, copies).assert_ok()
    away.rename(as_before.folder)
    as_before.says("the folder: in force", after)


def test_another_workload_is_shown(as_before: Up, copies: Copies) -> None:
    after = len(as_before.output)
    more = copy("more", "v1", 8199)
    replace(as_before.folder / "copies.yaml", joined(copies.text, more))
    as_before.says(r"^models/more +127\.0\.0\.1:8199 +127\.\S+:8199", after)
    eventually(lambda: len(as_before.envoys) == 5, "its Envoy")


def test_an_envoy_that_dies_is_told_and_another_is_started(as_before: Up, copies: Copies) -> None:
    after = len(as_before.output)
    killed = as_before.envoys
    for envoy in killed:
        envoy.kill()
    for name in ("gateway.infer", "one.models", "two.models", "canary.models"):
        as_before.says(rf"the Envoy beside {name} was killed by signal 9", after)
    eventually(lambda: set(called(as_before, copies).statuses) == {OK}, "that calls succeed again")
    assert not {envoy.pid for envoy in killed} & {envoy.pid for envoy in as_before.envoys}


# ---- the end ----


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_it_and_nothing_is_left(number: signal.Signals, copies: Copies, tmp_path: Path) -> None:
    with running(laid_out(tmp_path / "istio", copies)) as up:
        host, _, port = up.address.rpartition(":")
        up.process.send_signal(number)
        assert up.ends() == 0
        with socket.socket() as probe:
            assert probe.connect_ex((host, int(port))) != 0


def test_a_ctrl_c_before_it_is_up_leaves_nothing(copies: Copies, tmp_path: Path) -> None:
    with running(laid_out(tmp_path / "istio", copies)) as up:
        eventually(lambda: up.envoys, "an Envoy")
        up.process.send_signal(signal.SIGINT)
        assert up.ends() == 0


def test_killed_it_leaves_no_envoy_and_the_next_one_starts(copies: Copies, tmp_path: Path) -> None:
    resources = laid_out(tmp_path / "istio", copies)
    with running(resources) as up:
        assert up.address
        up.process.kill()
        up.process.wait(30)
        eventually(lambda: not up.envoys, "the end of its Envoys")
        assert [*up.runtime.iterdir()]
    with running(resources) as up:
        called(up, copies).assert_ok()
        up.process.terminate()
        assert up.ends() == 0


def test_when_nobody_reads_any_more_it_ends(copies: Copies, tmp_path: Path) -> None:
    resources, runtime = laid_out(tmp_path / "istio", copies), tmp_path / "runtime"
    runtime.mkdir()
    arguments = command(resources, "--proxy", "127.0.0.1:0")
    with subprocess.Popen(arguments, env=environment(runtime), stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        while "ready" not in process.stdout.readline():
            assert process.poll() is None
        process.stdout.close()
        replace(resources / "routes.yaml", weighed(50))
        assert process.wait(30) == 1
    assert not envoys_under(runtime)
    assert not [*runtime.iterdir()]


def test_what_its_author_hardly_meant_is_told(as_before: Up) -> None:
    after = len(as_before.output)
    replace(as_before.folder / "routes.yaml", weighed(80).replace("subset: v2", "subset: v7"))
    as_before.says(
        r"look at .*/routes\.yaml:\d+: VirtualService models/digits: .*no DestinationRule of \S+ has a", after
    )


def test_who_does_not_listen_yet_is_told(tmp_path: Path) -> None:
    resources = folder(tmp_path / "istio", all=joined(SERVICE, ROUTES, CALLER, copy("one", "v1", 8199)))
    with running(resources) as up:
        assert up.says(r"^nobody listens yet at 127\.0\.0\.1:8199 \(models/one\)$")
        assert up.address
        asked = [sys.executable, "-m", "headrace", "mesh", "status", "--dir", str(resources), "--over", "100ms"]
        environ = environment(tmp_path / "runtime")
        shown = subprocess.run(asked, capture_output=True, text=True, env=environ, timeout=60, check=True).stdout
        assert shown.splitlines()[-1] == "nobody listens at 127.0.0.1:8199 (models/one)"


# ---- what is refused ----


def test_a_mesh_runs_once(up: Up) -> None:
    assert up.address
    for proxy in ("127.0.0.1:0", up.address):  # it is not the port that is in the way
        done = tried(up.folder, "--proxy", proxy)
        assert (done.returncode, done.stdout) == (1, "")
        assert done.stderr == f"headrace: the mesh of {up.folder} runs already: end it, or use another folder\n"


def test_resources_that_cannot_be_used(copies: Copies, tmp_path: Path) -> None:
    resources = laid_out(tmp_path / "istio", copies)
    replace(resources / "routes.yaml", weighed(90).replace("subset: v2", "subset: [v2]"))
    done = tried(resources, "--proxy", "127.0.0.1:0")
    assert (done.returncode, done.stdout) == (1, "")
    first, second = done.stderr.splitlines()
    assert first == "headrace: the resources cannot be used"
    assert second.startswith(f"{resources}/routes.yaml:12: VirtualService models/digits: spec.http[0].route[1].destina")


def test_which_one_the_gateway_is_must_be_clear(copies: Copies, tmp_path: Path) -> None:
    resources = laid_out(tmp_path / "istio", copies)
    (resources / "batch.yaml").write_text(CALLER.replace("name: gateway", "name: batch"))
    done = tried(resources, "--proxy", "127.0.0.1:0")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == (
        "headrace: which workload is the gateway? infer/batch, infer/gateway serve nothing; "
        "name one with --gateway NAMESPACE/NAME\n"
    )
    with running(resources, "--gateway", "infer/batch") as up:
        assert re.search(rf"^infer/batch +calls {up.address} ", up.printed, re.MULTILINE)


def test_there_need_be_no_gateway(copies: Copies, tmp_path: Path) -> None:
    resources = laid_out(tmp_path / "istio", copies)
    replace(resources / "copies.yaml", copies.text.partition("---")[2])
    with running(resources) as up:
        assert up.says("^headrace mesh ready$")


@pytest.mark.parametrize("address", ["0.0.0.0:15001", "192.0.2.1:15001", "localhost:15001", "[::1]:15001"])
def test_the_gateways_proxy_is_on_the_loopback(address: str, tmp_path: Path) -> None:
    done = tried(folder(tmp_path / "istio"), "--proxy", address)
    assert done.returncode == 2
    assert f"--proxy: {address} is no IPv4 address of the loopback: what listens there is for" in done.stderr


def test_a_proxy_that_is_taken(tmp_path: Path) -> None:
    with listening() as port:
        done = tried(folder(tmp_path / "istio"), "--proxy", f"127.0.0.1:{port}")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == (
        f"headrace: cannot listen on 127.0.0.1:{port}: Address already in use; choose another --proxy\n"
    )


def test_one_that_lingers_from_the_last_mesh_is_free(copies: Copies, tmp_path: Path) -> None:
    with listening() as port:
        pass
    for _ in range(2):
        with running(laid_out(tmp_path / "istio", copies), at=f"--proxy=127.0.0.1:{port}") as up:
            assert up.address == f"127.0.0.1:{port}"
            caller = Caller(up.address, DIGITS, copies.worker)
            assert caller.call(Asked()).status is OK
            up.process.terminate()  # it closes the connection first, which then lingers
            assert up.ends() == 0
            caller.close()


@pytest.mark.parametrize(
    ("envoy", "words"),
    [
        ("true", "is not the Envoy proxy: it does not answer --version as Envoy does"),
        ("text", "cannot be run: Permission denied"),
    ],
)
def test_a_wrong_envoy(envoy: str, words: str, tmp_path: Path) -> None:
    (tmp_path / "text").touch()
    path = shutil.which("true") if envoy == "true" else tmp_path / "text"
    assert path is not None
    done = tried(folder(tmp_path / "istio"), "--envoy", path, "--proxy", "127.0.0.1:0")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == f"headrace: {path} {words}\n"


def test_an_envoy_that_is_not_there(tmp_path: Path) -> None:
    done = tried(folder(tmp_path / "istio"), "--envoy", tmp_path / "nowhere")
    assert done.returncode == 2
    assert "--envoy" in done.stderr


@pytest.mark.parametrize("lifetime", ["9s", "0s", "9000h", "100000000000h"])
def test_a_lifetime_that_makes_no_sense(lifetime: str, tmp_path: Path) -> None:
    done = tried(folder(tmp_path / "istio"), "--lifetime", lifetime)
    assert done.returncode == 2
    assert f"--lifetime: {lifetime} is not between 10s and 8760h" in done.stderr


def test_a_gateway_without_a_namespace(tmp_path: Path) -> None:
    done = tried(folder(tmp_path / "istio"), "--gateway", "gateway")
    assert done.returncode == 2
    assert "--gateway: gateway is not NAMESPACE/NAME" in done.stderr
