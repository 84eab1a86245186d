"""Processes under test, each on processors of its own. Law: what is started here ends here.

A child runs on the processors that its parent was bound to when it was started, with all its threads. Linux only:
elsewhere no process can be bound to a processor.
"""

from __future__ import annotations

import asyncio
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from threading import Timer
from typing import IO

_START = 30.0  # seconds that a child may take to come up
_END = 10.0  # seconds that it may take to end
_ANY_LINE = re.compile(r"(\S+)$")
_TICKS = os.sysconf("SC_CLK_TCK")  # a second


class Broken(Exception):  # noqa: N818 - it reads as what it says
    """A child did not come up; the text says which and how."""


@dataclass(frozen=True, slots=True)
class Child:
    """A process that listens at `address` (`HOST:PORT`)."""

    process: subprocess.Popen[str]
    address: str

    def cpu(self) -> float:
        """Seconds of processor time, user and system, of all its threads so far."""
        stat = Path(f"/proc/{self.process.pid}/stat").read_text()
        user, system = stat.rpartition(")")[2].split()[11:13]
        return (int(user) + int(system)) / _TICKS


@contextmanager
def bound_to(cpus: set[int]) -> Iterator[None]:
    """Run this thread, and what it starts meanwhile, on these processors only."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, cpus)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


@contextmanager
def child(cpus: set[int], *arguments: str, log: IO[str], ready: re.Pattern[str] = _ANY_LINE) -> Iterator[Child]:
    """`python ARGUMENTS` on these processors, once it has printed the line that tells its `HOST:PORT`. Raises Broken.

    Its standard error goes to `log`. It is asked to end by SIGTERM and by the end of its standard input.
    """
    with bound_to(cpus):
        process = subprocess.Popen(  # noqa: S603 - our own modules, no shell
            [sys.executable, *arguments], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, text=True
        )
    too_late = Timer(_START, process.kill)
    too_late.start()
    try:
        assert process.stdout is not None  # noqa: S101 - it was asked for
        told = next(filter(None, map(ready.search, process.stdout)), None)
        too_late.cancel()
        if told is None:
            raise Broken(f"`python {' '.join(arguments)}` ended with status {process.wait(_END)}")
        yield Child(process, told[1])
    finally:
        too_late.cancel()
        _end(process)


def _end(process: subprocess.Popen[str]) -> None:
    process.terminate()
    try:
        process.communicate(timeout=_END)
    except subprocess.TimeoutExpired:
        process.kill()
        process.communicate()


async def until_parent_ends() -> None:
    """Return when standard input ends: the parent has closed it, or is gone."""
    loop, ended = asyncio.get_running_loop(), asyncio.Event()

    def read() -> None:
        if not os.read(0, 1024):
            loop.remove_reader(0)
            ended.set()

    loop.add_reader(0, read)
    await ended.wait()
