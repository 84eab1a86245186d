from __future__ import annotations

import asyncio
import re
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

import psutil
import pytest

from headrace.demo import processes
from headrace.demo.processes import READY, Child, environment, running, together, unless_death
from headrace.failure import CommandError


async def child_of(code: str, folder: Path) -> Child:
    """A stand-in for a process of ours, so that how it behaves can be chosen."""
    log = folder / "child.log"
    with log.open("wb") as output:
        process = await asyncio.create_subprocess_exec(sys.executable, "-c", code, stdout=output, stderr=output)
    return Child("child", log, process)


async def test_a_child_is_up_when_it_says_so(tmp_path: Path) -> None:
    child = await child_of("print('headrace worker ready on 127.0.0.1:8001', flush=True)", tmp_path)
    assert await child.says(READY, 10) == "127.0.0.1:8001"
    await child.process.wait()


@pytest.mark.parametrize("output", ["headrace worker ready on 127.0.0.1:80", "not headrace worker ready on a:1\n", ""])
def test_half_a_ready_line_is_none(output: str) -> None:
    assert READY.search(output) is None


async def test_a_child_that_ends_is_told_with_its_last_words(tmp_path: Path) -> None:
    child = await child_of("import sys; print('first'); sys.exit('the model is broken')", tmp_path)
    with pytest.raises(CommandError) as caught:
        await child.says(READY, 10)
    assert str(caught.value) == "the child ended with code 1; its last words were:\n  first\n  the model is broken"


async def test_a_child_that_is_not_up_in_time_is_told(tmp_path: Path) -> None:
    child = await child_of("import time; print('loading', flush=True); time.sleep(60)", tmp_path)
    try:
        await child.says(re.compile("(loading)"), 10)
        with pytest.raises(CommandError, match=r"not up within 0.05 s; its last words were:\n  loading"):
            await child.says(READY, 0.05)
    finally:
        child.process.kill()
        await child.process.wait()


async def test_a_death_ends_the_work(tmp_path: Path) -> None:
    child = await child_of("import time; time.sleep(60)", tmp_path)
    cancelled = asyncio.Event()

    async def work() -> None:
        child.process.send_signal(signal.SIGKILL)
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            cancelled.set()
            raise

    with pytest.raises(CommandError, match="killed by signal 9; it said nothing"):
        await unless_death([child], work())
    assert cancelled.is_set()


async def test_a_death_explains_the_failure_that_it_causes(tmp_path: Path) -> None:
    child = await child_of("import time; time.sleep(60)", tmp_path)

    async def work() -> None:
        child.process.send_signal(signal.SIGKILL)
        raise CommandError("a call failed")

    with pytest.raises(CommandError, match="killed by signal 9"):
        await unless_death([child], work())


async def test_work_that_ends_by_itself_is_returned(tmp_path: Path) -> None:
    child = await child_of("import time; time.sleep(60)", tmp_path)

    async def work() -> int:
        return 7

    async def fails() -> int:
        raise CommandError("by itself")

    try:
        assert await unless_death([child], work()) == 7
        with pytest.raises(CommandError, match="by itself"):
            await unless_death([child], fails())
    finally:
        child.process.kill()
        await child.process.wait()


async def test_a_child_is_gone_when_its_block_ends(tmp_path: Path) -> None:
    async with running("version", ["--version"], tmp_path) as child:
        assert await child.says(re.compile(r"headrace (\S+)\n"), 30) == "0.1.0"
        assert child.log == tmp_path / "version.log"
    with pytest.raises(ZeroDivisionError):
        async with running("slow", ["--version"], tmp_path) as child:
            raise ZeroDivisionError
    assert not psutil.pid_exists(child.process.pid)


DRAINS = """import pathlib, signal, sys, time
def told(*_):
    pathlib.Path(sys.argv[1]).touch()
    while not pathlib.Path(sys.argv[2]).exists():
        time.sleep(0.01)
    sys.exit()
signal.signal(signal.SIGTERM, told)
print("up", flush=True)
time.sleep(60)
"""


async def test_children_together_are_stopped_at_the_same_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each ends only once the other was told too."""

    async def start(name: str, arguments: Sequence[str], folder: Path) -> Child:
        log = folder / f"{name}.log"
        with log.open("wb") as output:
            process = await asyncio.create_subprocess_exec(
                sys.executable, "-c", DRAINS, *arguments, stdout=output, stderr=output
            )
        return Child(name, log, process)

    monkeypatch.setattr(processes, "_start", start)
    a, b = str(tmp_path / "a"), str(tmp_path / "b")
    async with together({"one": [a, b], "two": [b, a]}, tmp_path) as children:
        for child in children:
            await child.says(re.compile("(up)\n"), 30)
    assert [child.process.returncode for child in children] == [0, 0]


def test_settings_of_the_users_do_not_reach_a_child() -> None:
    ours = {"PATH": "/bin", "HEADRACE_LISTEN__ADDRESS": "0.0.0.0:1", "OTEL_SDK_DISABLED": "true"}
    assert environment(ours) == {"PATH": "/bin", "PYTHONUNBUFFERED": "1"}
