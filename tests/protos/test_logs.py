"""Nothing that logs waits for whoever reads the log; and what it is told depends on who reads."""

from __future__ import annotations

import json
import os
import pty
import re
import subprocess
import sys
import time

import pytest

START = """
import logging, sys, threading, time, warnings
from protos import dropped, logs
from protos.log_settings import Logs
log = logging.getLogger("headrace.test")
with logs.written(Logs("headrace-test", *sys.argv[1:])):
"""
WRITE = f"""{START}
    begun = time.monotonic()
    for number in range(50_000):
        log.warning("line %d", number)
    print(time.monotonic() - begun, flush=True)
print(dropped.counts()["logs"])
"""


def said(code: str, *arguments: str, **environ: str) -> list[str]:
    """Lines of standard error of a process that logs."""
    line = [sys.executable, "-c", START + code, *arguments]
    done = subprocess.run(line, capture_output=True, text=True, check=True, timeout=60, env=os.environ | environ)
    return done.stderr.splitlines()


def on_a_terminal(code: str, *arguments: str, **environ: str) -> str:
    """What a terminal gets of it."""
    ours, theirs = pty.openpty()
    try:
        environment = {key: value for key, value in os.environ.items() if key != "NO_COLOR"}
        subprocess.run(
            [sys.executable, "-c", START + code, *arguments],
            stderr=theirs,
            check=True,
            timeout=60,
            env=environment | {"TERM": "xterm"} | environ,
        )
        return os.read(ours, 100_000).decode()
    finally:
        os.close(ours)
        os.close(theirs)


def test_a_reader_that_does_not_read_holds_up_nobody() -> None:
    child = subprocess.Popen([sys.executable, "-c", WRITE], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        begun = time.monotonic()
        assert child.stdout is not None
        assert child.stdout.readline()
        assert int(child.stdout.readline()) > 10_000  # are lost, and counted
        assert child.wait(30) == 0  # though nobody has read what it says
        assert time.monotonic() - begun < 30
    finally:
        child.kill()
        child.communicate()


def test_lines_are_written_and_lost_ones_are_counted() -> None:
    done = subprocess.run([sys.executable, "-c", WRITE], capture_output=True, text=True, check=True, timeout=60)
    lines = [json.loads(line) for line in done.stderr.splitlines()]
    assert (lines[0]["severity"], lines[0]["message"]) == ("WARNING", "line 0")
    lost = int(done.stdout.split()[1])
    assert len(lines) + lost == 50_000
    assert not lost or "lines before this one are lost" in done.stderr


def test_metadata_that_grpc_cannot_read_is_not_logged() -> None:
    told = said("""
    logging.getLogger("grpc._cython.cygrpc").error("Invalid encoding on b'Bearer secret'")
    logging.getLogger("other").error("seen")
""")
    assert [json.loads(line)["message"] for line in told] == ["seen"]


def test_whatever_a_thread_dies_of_is_an_event() -> None:
    told = said("""
    def fail():
        raise ValueError("of this")
    thread = threading.Thread(target=fail, name="the mill")
    thread.start()
    thread.join()
    warnings.warn("take care")
""")
    died, warned = map(json.loads, told)
    assert (died["message"], died["severity"]) == ("the thread the mill has died", "CRITICAL")
    assert died["exception.message"] == "of this"
    assert (warned["logger"], "take care" in warned["message"]) == ("py.warnings", True)


def test_what_the_sdk_repeats_is_said_once() -> None:
    told = said("""
    for number in range(50):
        logging.getLogger("opentelemetry.exporter").error("Failed to export to %s", number)
""")
    assert [(json.loads(line)["severity"], json.loads(line)["message"]) for line in told] == [
        ("WARNING", "Failed to export to 0")
    ]


SAY = """
    log.info("all is well")
"""
PLAIN = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z INFO \d+ headrace\.test all is well")


def test_people_get_colours_and_machines_json() -> None:
    assert "\x1b[32mINFO\x1b[0m" in on_a_terminal(SAY)
    assert json.loads(on_a_terminal(SAY, "json"))["message"] == "all is well"
    [line] = said(SAY)
    assert json.loads(line)["service"] == "headrace-test"
    [line] = said(SAY, "text")
    assert PLAIN.fullmatch(line)


@pytest.mark.parametrize("environ", [{"NO_COLOR": "1"}, {"TERM": "dumb"}])
def test_who_wants_no_colours_gets_none(environ: dict[str, str]) -> None:
    assert PLAIN.fullmatch(on_a_terminal(SAY, **environ).rstrip())
