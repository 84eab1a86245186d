from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import psutil
import pytest

from mesh.local import process
from mesh.local.process import Envoy, start
from tests.envoy import needs_envoy
from tests.mesh.local.scene import ENVOY, eventually

BOOTSTRAP = {"node": {"id": "test", "cluster": "test"}}


def program(folder: Path, script: str) -> Path:
    """A stand-in for an Envoy, so that how it behaves can be chosen."""
    path = folder / "envoy"
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return path


@contextlib.asynccontextmanager
async def started(folder: Path, script: str) -> AsyncIterator[Envoy]:
    envoy = await start(program(folder, script), {}, folder / "log")
    try:
        yield envoy
    finally:
        await envoy.stop()


async def said(envoy: Envoy, words: str) -> None:
    async with asyncio.timeout(20):
        while words not in envoy.log.read_text():
            await asyncio.sleep(0.01)


async def test_how_one_has_ended_is_told_with_its_last_words(tmp_path: Path) -> None:
    async with started(tmp_path, "seq 1 20; exit 3") as envoy:
        words = "\n  ".join(["ended with code 3, saying:", *map(str, range(13, 21))])
        assert await envoy.ended() == words


async def test_one_that_says_nothing(tmp_path: Path) -> None:
    async with started(tmp_path, "exit 0") as envoy:
        assert await envoy.ended() == "ended with code 0"


async def test_of_a_crash_the_cause_is_told_and_not_the_trace(tmp_path: Path) -> None:
    trace = "for i in $(seq 1 30); do echo \"[critical][backtrace] #$i\"; echo '[error][envoy_bug] #'; done"
    async with started(tmp_path, f"echo 'assert failure: x'; {trace}; kill -ABRT $$") as envoy:
        assert await envoy.ended() == "was killed by signal 6, saying:\n  assert failure: x"


async def test_too_few_inotify_instances_are_told_as_what_to_do(tmp_path: Path) -> None:
    words = "assert failure: inotify_fd_ >= 0. Details: Consider increasing value of fs.inotify.max_user_watches and/or"
    async with started(tmp_path, f"echo '{words} fs.inotify.max_user_instances'; kill -ABRT $$") as envoy:
        told = await envoy.ended()
    assert told == "cannot watch its files: raise fs.inotify.max_user_instances (sysctl), or run fewer workloads"


@needs_envoy
async def test_what_envoy_makes_of_a_bad_bootstrap_is_told(tmp_path: Path) -> None:
    envoy = await start(Path(str(ENVOY)), {"no_such_field": 1}, tmp_path / "log")
    told = await envoy.ended()
    assert told.startswith("ended with code 1, saying:\n")
    assert "no_such_field" in told


@needs_envoy
async def test_it_ends_when_told_to(tmp_path: Path) -> None:
    envoy = await start(Path(str(ENVOY)), dict(BOOTSTRAP), tmp_path / "log")
    assert psutil.pid_exists(envoy.process.pid)
    await envoy.stop()
    assert not psutil.pid_exists(envoy.process.pid)
    await envoy.stop()  # again is no trouble


async def test_one_that_will_not_end_is_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process, "_STOP", 0.1)
    async with started(tmp_path, "trap '' TERM; echo up; while :; do sleep 0.1; done") as envoy:
        await said(envoy, "up")
    assert envoy.process.returncode == -signal.SIGKILL


async def test_a_cancellation_does_not_leave_it_behind(tmp_path: Path) -> None:
    async with started(tmp_path, "trap 'echo told' TERM; echo up; while :; do sleep 0.1; done") as envoy:
        await said(envoy, "up")
        stopping = asyncio.create_task(envoy.stop())
        await said(envoy, "told")
        stopping.cancel()
        with pytest.raises(asyncio.CancelledError):
            await stopping
        assert envoy.process.returncode == -signal.SIGKILL


async def test_a_ctrl_c_on_the_terminal_is_not_for_it(tmp_path: Path) -> None:
    async with started(tmp_path, "echo up; exec sleep 60") as envoy:
        await said(envoy, "up")
        assert os.getsid(envoy.process.pid) == envoy.process.pid != os.getsid(0)


PARENT = """
import asyncio, pathlib, sys
from mesh.local.process import start

async def main():
    bootstrap = {"node": {"id": "test", "cluster": "test"}}
    envoy = await start(pathlib.Path(sys.argv[1]), bootstrap, pathlib.Path(sys.argv[2]))
    print(envoy.process.pid, flush=True)
    await asyncio.sleep(60)

asyncio.run(main())
"""


@needs_envoy
def test_it_does_not_outlive_us_even_if_we_are_killed(tmp_path: Path) -> None:
    command = [sys.executable, "-c", PARENT, str(ENVOY), str(tmp_path / "log")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        envoy = psutil.Process(int(parent.stdout.readline()))
        eventually(lambda: envoy.name() == "envoy", "an Envoy in the launcher's place")
        assert envoy.is_running()
        parent.kill()
    eventually(lambda: not psutil.pid_exists(envoy.pid), "its end")
