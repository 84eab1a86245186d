"""`headrace mesh up` as a process of its own, for tests, and the workers that it finds."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import grpc
import psutil

from mesh.testing.caller import Asked, Caller
from mesh.testing.calls import Calls
from mesh.testing.worker import Worker
from tests.headrace.called import Done, headrace
from tests.mesh.local.scene import (
    CALLER,
    DIGITS,
    GATEWAY_ALONE,
    SERVICE,
    STRICT,
    copy,
    eventually,
    folder,
    joined,
    listening,
    weighed,
)

READY = re.compile(r"^headrace \w+ ready on (\S+)$", re.MULTILINE)
OK = grpc.StatusCode.OK


@dataclass
class Up:
    """A running `headrace mesh up`: what it has printed so far, and what it must not leave."""

    process: subprocess.Popen[str]
    folder: Path
    runtime: Path
    output: list[str] = field(default_factory=list)

    @property
    def printed(self) -> str:
        return "".join(self.output)

    def says(self, pattern: str, after: int = 0) -> re.Match[str]:
        """The first match in what it prints after so many lines, once it is there."""

        def found() -> re.Match[str] | None:
            match = re.search(pattern, "".join(self.output[after:]), re.MULTILINE)
            assert match or self.process.poll() is None, f"it has ended: {self.printed}"
            return match

        match = eventually(found, f"that it says {pattern!r} after {self.printed!r}")
        assert match is not None
        return match

    @property
    def address(self) -> str:
        return self.says(READY.pattern)[1]

    @property
    def envoys(self) -> list[psutil.Process]:
        return envoys_under(self.runtime)

    def ends(self) -> int:
        """Its exit code, and nothing is left: no Envoy, no file."""
        code = self.process.wait(30)
        assert not self.envoys
        assert not [*self.runtime.iterdir()]
        return code


def envoys_under(runtime: Path) -> list[psutil.Process]:
    """Envoys whose files are there."""
    found = []
    for pid in psutil.pids():
        with contextlib.suppress(psutil.Error):
            process = psutil.Process(pid)
            if any(str(runtime) in word for word in process.cmdline()) and process.name() == "envoy":
                found.append(process)
    return found


def command(*arguments: str | Path) -> list[str]:
    return [sys.executable, "-m", "headrace", "mesh", "up", *map(str, arguments)]


def environment(runtime: Path) -> dict[str, str]:
    return {**os.environ, "XDG_RUNTIME_DIR": str(runtime), "PYTHONUNBUFFERED": "1", "COLUMNS": "80"}


@contextlib.contextmanager
def running(resources: Path, *arguments: str | Path, at: str = "--proxy=127.0.0.1:0") -> Iterator[Up]:
    """It runs while inside; however that ends, nothing of it is left."""
    runtime = resources.parent / "runtime"
    runtime.mkdir(exist_ok=True)
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # one run in the background may ignore it
    try:
        process = subprocess.Popen(
            command(resources, at, *arguments),
            env=environment(runtime), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )  # fmt: skip
    finally:
        signal.signal(signal.SIGINT, before)
    up = Up(process, resources, runtime)
    assert process.stdout is not None
    reader = threading.Thread(target=up.output.extend, args=(process.stdout,))
    reader.start()
    try:
        yield up
    finally:
        if process.poll() is None:
            process.terminate()
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()
        reader.join()
        process.stdout.close()
        for envoy in envoys_under(runtime):
            envoy.kill()


def tried(resources: Path, *arguments: str | Path) -> Done:
    """One that ends by itself, in this process."""
    runtime = resources.parent / "runtime"
    runtime.mkdir(exist_ok=True)
    return headrace("mesh", "up", str(resources), *map(str, arguments), environ={"XDG_RUNTIME_DIR": str(runtime)})


@dataclass
class Copies:
    """Workers where the resources say, and the resources."""

    workers: dict[str, Worker]
    text: str

    def worker(self, name: str) -> Worker | None:
        return self.workers.get(name)


@contextlib.contextmanager
def listening_copies() -> Iterator[Copies]:
    """One for each entry, while inside."""
    with contextlib.ExitStack() as stack:
        workers, entries = {}, []
        for name, version in (("one", "v1"), ("two", "v1"), ("canary", "v2")):
            with listening() as port:
                pass
            workers[name] = Worker(name, {"version": version}, "127.0.0.1")
            workers[name].listen([port])
            stack.callback(workers[name].stop)
            entries.append(copy(name, version, port))
        yield Copies(workers, joined(CALLER, *entries))


def laid_out(path: Path, copies: Copies) -> Path:
    policies = joined(STRICT, GATEWAY_ALONE)
    return folder(path, service=SERVICE, routes=weighed(100), policies=policies, copies=copies.text)


def replace(path: Path, text: str) -> None:
    """Write a file in one step."""
    new = path.with_suffix(".new")
    new.write_text(text)
    new.replace(path)


def called(up: Up, copies: Copies, times: int = 20) -> Calls:
    caller = Caller(up.address, DIGITS, copies.worker)
    try:
        return caller.calls(Asked(), times, 4)
    finally:
        caller.close()
