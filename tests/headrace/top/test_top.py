"""The command, as users run it."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import json
import os
import pty
import signal
import struct
import sys
import termios
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from headrace.commands.top import where
from headrace.demo.state import State, published
from tests.gateway.world import unused_address
from tests.headrace.called import headrace
from tests.headrace.top.stand_in import Gateway

TOP = (sys.executable, "-m", "headrace", "top")


async def ran(*arguments: str, **environ: str) -> tuple[int | None, str, str]:
    process = await asyncio.create_subprocess_exec(
        *(*TOP, *arguments),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env={**os.environ, **environ},
    )
    out, err = await asyncio.wait_for(process.communicate(), 60)
    return process.returncode, out.decode(), err.decode()


async def test_elsewhere_than_on_a_terminal_it_is_told_once() -> None:
    gateway = Gateway()
    gateway.calls(2, "digits", "1")
    gateway.calls(2, "vision-large", "1")
    async with gateway.serving() as url:
        code, out, err = await ran(
            "--gateway", url.removeprefix("http://"), "--interval", "50ms", "--model", "vision-*"
        )
        assert (code, err) == (0, "")
        assert out.count("headrace top") == 1 and "vision-large" in out and "digits" not in out
        code, out, err = await ran("--gateway", url, "--interval", "50ms", "-o", "json", "--count", "2")
        assert (code, err, len(out.splitlines())) == (0, "", 2)
        assert {row["model"] for row in json.loads(out.splitlines()[0])["rows"]} == {"digits", "vision-large"}


class Terminal:
    """A command on a terminal of so many columns and 24 lines."""

    def __init__(self, process: asyncio.subprocess.Process, screen: int) -> None:
        self.process = process
        self._screen = screen
        self._told = b""
        asyncio.get_running_loop().add_reader(screen, self._read)

    def _read(self) -> None:
        try:
            self._told += os.read(self._screen, 65536)
        except OSError:  # it is over
            asyncio.get_running_loop().remove_reader(self._screen)

    async def shows(self, words: str) -> str:
        """What it has shown, once these words are in it."""
        async with asyncio.timeout(30):
            while words not in (told := self._told.decode(errors="replace")):
                await asyncio.sleep(0.01)
        return told

    def forget(self) -> None:
        self._told = b""


@contextlib.asynccontextmanager
async def on_a_terminal(columns: int, *arguments: str) -> AsyncIterator[Terminal]:
    screen, ours = pty.openpty()
    fcntl.ioctl(ours, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    environ = {key: value for key, value in os.environ.items() if key not in ("COLUMNS", "LINES", "NO_COLOR")}
    process = await asyncio.create_subprocess_exec(
        *(*TOP, *arguments), stdin=ours, stdout=ours, stderr=ours, env={**environ, "TERM": "xterm-256color"}
    )
    os.close(ours)
    try:
        yield Terminal(process, screen)
    finally:
        asyncio.get_running_loop().remove_reader(screen)
        if process.returncode is None:
            process.kill()
        await process.wait()
        os.close(screen)


@pytest.mark.parametrize("columns", [80, 200])
async def test_on_a_terminal_it_is_drawn_until_ctrl_c_and_the_last_picture_stays(columns: int) -> None:
    gateway = Gateway()
    gateway.gauges["headrace.calls.active"] = {("express",): 2.0}
    for number in range(40):
        gateway.calls(1, f"m{number:02}", "1")
    async with (
        gateway.serving() as url,
        on_a_terminal(columns, "--gateway", url, "--interval", "50ms") as terminal,
    ):
        told = await terminal.shows("and 2")  # there are more models than lines
        assert ("running" in told) == (columns == 200)
        gateway.calls(1, "late", "1")
        terminal.forget()
        await terminal.shows("late")
        terminal.forget()
        terminal.process.send_signal(signal.SIGINT)
        assert await asyncio.wait_for(terminal.process.wait(), 20) == 0
        last = (await terminal.shows("\x1b[?25h")).rpartition("\x1b[2K")[2]  # the cursor is back
        assert "m00" in last or "late" in last
        assert "Traceback" not in last and "headrace:" not in last


async def test_a_pipe_that_closes_is_an_end() -> None:
    gateway = Gateway()
    async with gateway.serving() as url:
        process = await asyncio.create_subprocess_exec(
            *(*TOP, "--gateway", url, "--interval", "20ms", "--count", "1000000"),
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        assert await asyncio.wait_for(process.stdout.readline(), 30)
        process.stdout._transport.close()
        assert await asyncio.wait_for(process.wait(), 30) == 1
        assert b"Traceback" not in await process.stderr.read()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--interval", "0s"), "in no time nothing is counted"),
        (("--interval", "soon"), "--interval"),
        (("--count", "0"), "--count"),
        (("--mesh", "nowhere"), "nowhere"),
    ],
)
def test_what_cannot_be_is_a_usage_error(arguments: tuple[str, ...], words: str) -> None:
    done = headrace("top", *arguments)
    assert done.returncode == 2 and words in done.stderr


def test_who_is_not_there_is_told() -> None:
    address = unused_address()
    done = headrace("top", "--gateway", address)
    why = f"headrace: http://{address} does not answer: Connection refused; --gateway names the admin page of one\n"
    assert (done.returncode, done.stderr) == (1, why)


def test_without_a_name_it_is_the_demo_that_stays(tmp_path: Path) -> None:
    environ = {"XDG_RUNTIME_DIR": str(tmp_path)}
    assert where(None, [], environ) == ("http://127.0.0.1:9090", [])
    assert where("gateway:9090", ["a:1"], environ) == ("http://gateway:9090", ["a:1"])
    assert where("https://gateway/admin", [], environ) == ("https://gateway/admin", [])
    samples = str(tmp_path / "demo" / "samples")
    demo = State(os.getpid(), "127.0.0.1:1", "127.0.0.1:2", "http://127.0.0.1:3", "s", samples, "http://127.0.0.1:4")
    with published(demo, tmp_path / "headrace"):
        assert where(None, [], environ) == ("http://127.0.0.1:2", [])
        assert where(None, ["a:1"], environ) == ("http://127.0.0.1:2", ["a:1"])
