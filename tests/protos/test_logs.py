"""Nothing that logs waits for whoever reads the log."""

import re
import subprocess
import sys
import time

WRITE = """
import logging, sys, time
from protos import logs
with logs.to_stderr():
    begun = time.monotonic()
    for number in range(50_000):
        logging.getLogger("test").warning("line %d", number)
    print(time.monotonic() - begun, flush=True)
"""


def test_a_reader_that_does_not_read_holds_up_nobody() -> None:
    child = subprocess.Popen([sys.executable, "-c", WRITE], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        begun = time.monotonic()
        assert child.stdout is not None
        assert child.stdout.readline()
        assert child.wait(30) == 0  # though nobody has read what it says
        assert time.monotonic() - begun < 30
    finally:
        child.kill()
        child.communicate()


def test_lines_are_written_and_lost_ones_are_counted() -> None:
    done = subprocess.run([sys.executable, "-c", WRITE], capture_output=True, text=True, check=True, timeout=60)
    lines = done.stderr.splitlines()
    assert re.search(r"WARNING \d+ test line 0$", lines[0])
    assert len(lines) == 50_000 or "lines before this one are lost" in done.stderr


def test_metadata_that_grpc_cannot_read_is_not_logged() -> None:
    code = """
import logging
from protos import logs
with logs.to_stderr():
    logging.getLogger("grpc._cython.cygrpc").error("Invalid encoding on b'Bearer secret'")
    logging.getLogger("other").error("seen")
"""
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60).stderr
    assert "seen" in told
    assert "secret" not in told
