"""`headrace mesh status`, of a real mesh."""

from __future__ import annotations

import asyncio
import io
import json
import os
import pty
import re
import signal
import subprocess
import sys
from collections.abc import Iterator

import pytest
from grpc import StatusCode
from rich.console import Console

from headrace.flow import flow
from mesh.status.rows import Row
from mesh.testing import Mesh, running
from mesh.testing.calls import interval
from tests.envoy import needs_envoy
from tests.headrace.called import Done, headrace
from tests.mesh.render.rendered import FOLDER

pytestmark = pytest.mark.timeout(120)
DIGITS = "digits.models.svc.cluster.local:8001"


def status(*arguments: str) -> Done:
    return headrace("mesh", "status", *arguments)


@pytest.fixture(scope="module")
def canary() -> Iterator[Mesh]:
    with running(FOLDER / "canary" / "istio") as mesh:
        yield mesh


@needs_envoy
def test_what_was_asked_for_and_what_flows(canary: Mesh) -> None:
    admin = canary.sidecars["gateway"].admin
    with canary.calling(DIGITS) as calls:
        found = status("--admin", admin, "--over", "1s", "-o", "json")
    assert (found.returncode, found.stderr) == (0, "")
    first, second = json.loads(found.stdout)
    assert (first["model"], first["version"], first["weight"], first["copies"]) == ("digits", "1", 90, 2)
    assert (second["model"], second["version"], second["weight"], second["copies"]) == ("digits", "2", 10, 1)
    counted = first["statuses"]["0"] + second["statuses"]["0"]
    assert 0 < counted <= len(calls.all)
    low, high = interval(counted, 0.1)
    assert low <= second["statuses"]["0"] <= high
    assert first["share"] + second["share"] == pytest.approx(100)
    assert 0 <= first["p50"] <= first["p99"] < 5000


@needs_envoy
def test_trouble_is_told(canary: Mesh) -> None:
    rules = (FOLDER / "canary" / "istio" / "digits.yaml").read_text()
    canary.write("digits.yaml", rules.replace("maxEjectionPercent: 34", "maxEjectionPercent: 50"))
    bad = canary.worker(version="v2")
    bad.answers(StatusCode.INVALID_ARGUMENT)
    out = next(worker for worker in canary.workers.values() if worker.labels["version"] == "v1")
    out.answers(StatusCode.UNAVAILABLE)
    try:
        with canary.calling(DIGITS):
            shown = status("--admin", canary.sidecars["gateway"].admin, "--over", "2s").stdout
    finally:
        for worker in (bad, out):
            worker.answers()
    assert re.search(r"^digits 1: .*1 ejected", shown, re.MULTILINE)
    assert re.search(r"^digits 2: \d+ INVALID_ARGUMENT", shown, re.MULTILINE)
    assert "1 of 2" in shown
    assert max(map(len, shown.splitlines())) <= 80


@needs_envoy
def test_watching_goes_on_until_ctrl_c(canary: Mesh) -> None:
    command = [sys.executable, "-m", "headrace", "mesh", "status", "--watch", "--over", "100ms"]
    command += ["--admin", canary.sidecars["gateway"].admin]
    leader, follower = pty.openpty()
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        watching = subprocess.Popen(
            command, stdout=follower, stderr=subprocess.PIPE, env={**os.environ, "TERM": "xterm"}
        )
    finally:
        signal.signal(signal.SIGINT, before)
    os.close(follower)
    shown = b""
    while shown.count(b"digits") < 3:  # drawn three times
        shown += os.read(leader, 65536)
    watching.send_signal(signal.SIGINT)
    _, errors = watching.communicate(timeout=30)
    os.close(leader)
    assert (watching.returncode, errors.decode()) == (1, "headrace: stopped\n")


@needs_envoy
def test_a_model_that_is_not_there(canary: Mesh) -> None:
    found = status("resnet", "--admin", canary.sidecars["gateway"].admin, "--over", "100ms")
    assert found.returncode == 1
    assert "routes for no model resnet; it does for digits" in found.stderr


def test_no_time_is_no_time() -> None:
    found = status("--admin", "127.0.0.1:1", "--over", "0s")
    assert found.returncode == 2
    assert "in no time nothing is counted" in found.stderr


def test_nobody_to_ask() -> None:
    found = status("--admin", "127.0.0.1:1")
    assert (found.returncode, found.stdout) == (1, "")
    assert found.stderr.startswith("headrace: 127.0.0.1:1 does not answer")
    found = status("--dir", "nowhere")
    assert found.stderr.startswith("headrace: no mesh runs for nowhere (")
    assert found.stderr.endswith(" has none); start one with: headrace mesh up nowhere\n")


async def test_whoever_answers_otherwise_is_no_envoy() -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello")
        await writer.drain()
        writer.close()

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        found = await asyncio.to_thread(status, "--admin", f"127.0.0.1:{port}")
    assert found.returncode == 1
    assert "is not what an Envoy answers" in found.stderr


@pytest.mark.parametrize("width", [80, 200])
def test_it_is_drawn_in_the_width_there_is(width: int) -> None:
    rows = [
        Row("digits", "1", 90, 88.2, 120.5, {0: 238, 14: 3}, 0.4, 12.0, 3, 1, 0, ()),
        Row("digits", "2", 10, 11.8, 16.0, {0: 32}, 1.2, 250.0, 1, 0, 7, ("rq_open", "rq_pending_open")),
        Row("faces", "1", 100, None, 0.0, {}, None, None, 0, 0, 0, ()),
    ]
    console = Console(file=io.StringIO(), width=width)
    console.print(flow(rows, console.options))
    assert isinstance(console.file, io.StringIO)
    lines = [line.rstrip() for line in console.file.getvalue().splitlines()]
    assert max(map(len, lines)) <= width
    assert any("█" in line for line in lines) is (width == 200)
    assert lines[-3:] == [
        "digits 1: 3 UNAVAILABLE, 1 ejected",
        "digits 2: 7 over the breaker, breaker open: requests, waiting",
        "faces 1: no copies",
    ]
