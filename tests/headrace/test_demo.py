"""The demo as a user runs it: a process of its own, with real models, sockets and signals."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import grpc
import psutil
import pytest
from google.protobuf import json_format

from headrace.demo import state
from headrace.demo.state import State
from headrace.failure import CommandError
from protos.grpc_service_pb2 import ModelInferRequest, ModelInferResponse
from tests.envoy import ENVOY, needs_envoy

T = TypeVar("T")
WAIT = 90.0  # seconds; the machine may be busy


@dataclass(frozen=True)
class Place:
    """Where a demo may leave its files: nothing else uses these folders."""

    temporary: Path
    runtime: Path

    @property
    def environment(self) -> dict[str, str]:
        return {
            **os.environ,
            "TMPDIR": str(self.temporary),
            "XDG_RUNTIME_DIR": str(self.runtime),
            "COLUMNS": "80",
            "http_proxy": "http://127.0.0.1:9",  # nobody answers there: the demo must not ask
        }

    def processes(self) -> list[psutil.Process]:
        """The demo's children and theirs: their arguments name its folders."""
        found = []
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error):
                words = " ".join(process.cmdline())
                if process.pid != os.getpid() and (str(self.temporary) in words or str(self.runtime) in words):
                    found.append(process)
        return found

    def assert_clean(self) -> None:
        assert not self.processes()
        assert not list(self.temporary.iterdir())
        assert not list(self.runtime.iterdir())

    def headrace(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "headrace", *arguments],
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=WAIT,
            check=False,
        )

    @contextlib.contextmanager
    def demo(self, *options: str) -> Iterator[subprocess.Popen[str]]:
        """A running demo; killed, with its children, when a test fails on the way."""
        # A test run in the background may ignore SIGINT, and a child would inherit that.
        before = signal.signal(signal.SIGINT, signal.default_int_handler)
        try:
            process = subprocess.Popen(
                [sys.executable, "-m", "headrace", "demo", *options],
                env=self.environment,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
                start_new_session=True,
            )
        finally:
            signal.signal(signal.SIGINT, before)
        try:
            yield process
        finally:
            if process.poll() is None:
                process.kill()
                process.communicate()
                for child in self.processes():
                    child.kill()

    def running(self) -> State | None:
        with contextlib.suppress(CommandError):
            return state.find(self.runtime / "headrace")
        return None


@pytest.fixture
def place(tmp_path: Path) -> Place:
    made = Place(tmp_path / "temporary", tmp_path / "runtime")
    made.temporary.mkdir()
    made.runtime.mkdir(mode=0o700)
    return made


def until(condition: Callable[[], T | None], process: subprocess.Popen[str] | None = None) -> T:
    end = time.monotonic() + WAIT
    while time.monotonic() < end:
        if found := condition():
            return found
        if process is not None and process.poll() is not None:
            pytest.fail(f"the demo ended early: {process.communicate()}")
        time.sleep(0.02)
    return pytest.fail("waited in vain")


def test_once_ends_after_a_tour_that_did_what_it_says(place: Place) -> None:
    done = place.headrace("demo", "--once", "--no-mesh")
    assert (done.returncode, done.stderr) == (0, "")
    assert "mesh status" not in done.stdout
    check_what_was_said(done.stdout)
    place.assert_clean()


def check_what_was_said(said: str) -> None:
    """Of a tour, with a mesh or without."""
    shares = re.findall(r"^([12]) .* (\d+) of 300 +([\d.]+)% +([\d.]+)% ", said, re.MULTILINE)
    assert [version for version, *_ in shares] == ["1", "2"]
    for _, right, through_gateway, local in shares:
        assert through_gateway == local == f"{int(right) / 3:.1f}"
    for reason in ("TOKEN_MISSING", "TOKEN_EXPIRED", "TOKEN_INVALID", "NOT_GRANTED"):
        assert reason in said
    whose = r"^ *(?:└─)?(headrace-demo client|headrace-gateway server|headrace-gateway client|worker-2 server)\b.* ms\b"
    assert (
        re.findall(whose, said, re.MULTILINE)
        == [
            "headrace-demo client",
            "headrace-gateway server",
            "headrace-gateway client",
            "worker-2 server",
        ]
        * 2
    )  # traces: of a call that Python handled, and of one that Envoy carried
    if ENVOY:
        assert int(re.findall(r"^express lane: (\d+) carried by Envoy alone", said, re.MULTILINE)[0]) > 600
        assert re.findall(r"^    .*\blane (\w+), caller", said, re.MULTILINE) == ["python", "express"]
    assert "\x1b" not in said
    assert re.search(r"^no token +TOKEN_MISSING +send a token: authorization: Bearer TOKEN *$", said, re.MULTILINE)
    assert max(len(line) for line in said.splitlines() if "grpcurl" not in line and " -m " not in line) <= 80


@needs_envoy
def test_a_demo_on_a_mesh_loses_no_call_and_serves_the_meshs_commands(place: Place) -> None:
    with place.demo("--stay", "--mesh") as demo:
        assert demo.stdout
        said = "".join(itertools.takewhile(lambda line: "The demo stays up" not in line, demo.stdout))
        assert "mesh status" in said
        check_what_was_said(said)
        check_what_the_mesh_did(said)
        found = until(place.running, demo)
        istio = str(Path(found.samples).parent / "istio")
        shifted = place.headrace("mesh", "shift", "digits", "1=0", "2=100", "--dir", istio)
        assert (shifted.returncode, shifted.stderr) == (0, "")

        def live() -> bool:
            rows = json.loads(place.headrace("mesh", "status", "--dir", istio, "--over", "100ms", "-o", "json").stdout)
            return {row["version"]: row["weight"] for row in rows} == {"1": 0, "2": 100}

        until(live, demo)
        explained = place.headrace("mesh", "explain", "digits", "--version", "2", "--dir", istio)
        assert "it is this one" in explained.stdout
        os.killpg(demo.pid, signal.SIGINT)  # as a terminal's Ctrl-C does: the mesh and the Envoys get it, too
        _, errors = demo.communicate(timeout=WAIT)
        assert (demo.returncode, errors) == (0, "")
    place.assert_clean()


def check_what_the_mesh_did(said: str) -> None:
    shifted = re.search(r"^✓ weights shifted to 50/50, in force after .+; (\d+)% went to version 2$", said, re.M)
    assert shifted and 30 < int(shifted[1]) < 70
    for line in (
        r"✓ worker 1a killed: ejected after [\d.]+ s",
        r"✓ worker 2b hangs: ejected after [\d.]+ s, back [\d.]+ s after it woke",
        r"✓ worker 1a started again, and back among the copies",
        r"the gateway, by its sidecar +OK *",
        r"a worker, by its own sidecar +PERMISSION_DENIED +RBAC: access denied *",
        r"anyone, in plain text +UNAVAILABLE .*",
    ):
        assert re.search(f"^{line}$", said, re.MULTILINE), line
    assert len(re.findall(r"^  \d+ calls, none failed, the slowest took [\d.]+ s$", said, re.MULTILINE)) == 3


def test_a_demo_that_stays_serves_other_commands_until_a_child_dies(place: Place) -> None:
    with place.demo("--stay", "--no-mesh") as demo:
        found = until(place.running, demo)
        samples = Path(found.samples)
        assert samples.parent.stat().st_mode & 0o777 == 0o700
        assert len(place.processes()) == 3

        token = place.headrace("token", "--subject", "a test")
        assert (token.returncode, token.stderr) == (0, "")
        answer = infer_as_grpcurl_would(found, samples / "digit-3.json", token.stdout.strip())
        assert (answer.model_name, len(answer.raw_output_contents) or len(answer.outputs)) == ("digits", 2)

        image = str(samples / "digit-3.png")
        seen = place.headrace("infer", "digits", image, "--version", "canary", "-o", "json")
        assert (seen.returncode, seen.stderr) == (0, "")
        said = json.loads(seen.stdout)
        assert (said["model_name"], said["model_version"]) == ("digits", "2")
        outputs = {output["name"]: output["data"] for output in said["outputs"]}
        assert outputs["label"] == [3]
        assert sum(outputs["probabilities"]) == pytest.approx(1, abs=1e-4)
        shown = place.headrace("infer", "digits", image, "--version", "2")
        assert shown.stdout.startswith("3, says digits version 2")

        refused = place.headrace("infer", "letters", image)
        assert (refused.returncode, refused.stdout) == (1, "")
        assert "PERMISSION_DENIED NOT_GRANTED" in refused.stderr
        assert "also reads the model's metadata, which takes the action inspect." in refused.stderr
        other = place.headrace("token", "--scope", "infer:letters").stdout.strip()
        refused = place.headrace("infer", "digits", image, "--token", other)
        assert "NOT_GRANTED" in refused.stderr

        listed = json.loads(place.headrace("trace", "--errors", "--limit", "1", "-o", "json").stdout)
        assert [(one["status"], one["services"]) for one in listed] == [("PERMISSION_DENIED", ["headrace-gateway"])]
        drawn = place.headrace("trace", listed[0]["trace"][:8])
        assert drawn.stdout.startswith(f"trace {listed[0]['trace']}  Model")
        assert "reason NOT_GRANTED" in " ".join(drawn.stdout.split())  # wherever its lines end

        [worker] = [process for process in place.processes() if str(samples.parent / "models-1") in process.cmdline()]
        worker.kill()
        _, errors = demo.communicate(timeout=WAIT)
        assert demo.returncode == 1
        assert errors.startswith("headrace: the worker 1a was killed by signal 9; its last words were:\n")
        assert "Traceback" not in errors
    place.assert_clean()
    gone = place.headrace("token")
    assert (gone.returncode, gone.stderr) == (1, "headrace: no demo is running; start one with: headrace demo --stay\n")
    host, _, port = found.gateway.rpartition(":")
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection((host, int(port)), timeout=5)


def infer_as_grpcurl_would(found: State, request: Path, token: str) -> ModelInferResponse:
    message = json_format.Parse(request.read_text(), ModelInferRequest())
    with grpc.insecure_channel(found.gateway) as channel:
        call = channel.unary_unary(
            "/inference.GRPCInferenceService/ModelInfer",
            request_serializer=ModelInferRequest.SerializeToString,
            response_deserializer=ModelInferResponse.FromString,
        )
        answer: ModelInferResponse = call(message, metadata=[("authorization", f"Bearer {token}")], timeout=10)
        return answer


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_in_the_middle_leaves_nothing_behind(place: Place, number: signal.Signals) -> None:
    with place.demo("--once") as demo:
        until(place.processes, demo)
        demo.send_signal(number)
        output, errors = demo.communicate(timeout=WAIT)
        assert output.splitlines().count("Stopping ...") == 1
        assert (demo.returncode, errors) == (1, "headrace: stopped before the tour was over\n")
    place.assert_clean()


def test_a_reader_that_leaves_in_the_middle_leaves_nothing_behind(place: Place) -> None:
    with place.demo("--once") as demo:
        until(place.processes, demo)
        assert demo.stdout
        assert demo.stderr
        demo.stdout.close()
        with demo.stderr as errors:
            assert (demo.wait(WAIT), errors.read()) == (1, "")
    place.assert_clean()


TERMINAL = "import os, pty, sys; sys.exit(os.waitstatus_to_exitcode(pty.spawn(sys.argv[1:])))"


def test_on_a_terminal_it_stays_until_ctrl_c(place: Place) -> None:
    terminal = subprocess.Popen(
        [sys.executable, "-c", TERMINAL, sys.executable, "-m", "headrace", "demo", "--no-mesh"],
        env={**place.environment, "TERM": "xterm"},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert terminal.stdin
    assert terminal.stdout
    shown = b""
    with terminal:
        while b"Ctrl-C ends it" not in shown and (some := os.read(terminal.stdout.fileno(), 65536)):
            shown += some
        terminal.stdin.write(b"\x03")
        terminal.stdin.flush()
        rest = terminal.stdout.read()
    assert terminal.returncode == 0
    assert "━".encode() in shown
    assert b"Stopping ..." in rest
    assert b"Traceback" not in shown + rest
    place.assert_clean()
