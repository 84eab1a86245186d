"""`headrace demo` that stays up, and gateways beside its own. Law: what starts here ends here, and leaves nothing."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import aiohttp
import grpc
import psutil

from mesh.envoy.admin import Admin
from protos import grpc_service_pb2 as pb
from protos.grpc_service_pb2_grpc import GRPCInferenceServiceStub

HEADRACE = (sys.executable, "-m", "headrace")
_ALL, _PYTHONS = "http.front.downstream_rq_total", "cluster.python.upstream_rq_total"
_WAIT = 90  # seconds; the machine may be busy


@dataclass(frozen=True)
class Counted:
    """What a version of the model has done: requests that it answered, and pictures that it read."""

    requests: int
    pictures: int

    def __sub__(self, before: Counted) -> Counted:
        return Counted(self.requests - before.requests, self.pictures - before.pictures)


@dataclass(frozen=True)
class Demo:
    """Its folder, its workers' addresses by version, a token that its gateways take, and whereto they may write."""

    folder: Path
    workers: Mapping[str, str]
    token: str
    room: Path

    def counted(self) -> dict[str, Counted]:
        """By version, since it started."""
        return {version: _counted(address, version) for version, address in self.workers.items()}

    @contextlib.contextmanager
    def gateway(self, lane: str) -> Iterator[Gateway]:
        """Another gateway to its workers, with or without an Envoy in front. Traced calls would be Python's."""
        folder, express = _made(self.room / lane), lane == "express"
        settings = {
            "HEADRACE_LISTEN__EXPRESS": "on" if express else "off",
            "HEADRACE_TELEMETRY__SAMPLE": "0",
            "TMPDIR": str(folder),
        }
        command = ("gateway", "--config", str(self.folder / "headrace.yaml"))
        with _running(command, settings, self.room / f"{lane}.log", r"^headrace gateway ready on \S+\n") as said:
            (address,) = re.findall(r"^headrace gateway ready on (\S+)", said, re.MULTILINE)
            yield Gateway(address, express, folder)
        assert list(folder.iterdir()) == []


@dataclass(frozen=True)
class Gateway:
    """Its address for callers, whether it has the express lane, and the folder that holds its temporary ones."""

    address: str
    express: bool
    folder: Path

    def carried(self) -> int:
        """How many calls an Envoy in front has answered past Python; 0 where there is none."""
        return sum(asyncio.run(_carried(socket)) for socket in self.folder.glob("*/admin.sock"))


@contextlib.contextmanager
def staying_demo(room: Path) -> Iterator[Demo]:
    """A demo without sidecars, its tour over; everything that it writes is in `room`."""
    places = {"TMPDIR": _made(room / "temporary"), "XDG_RUNTIME_DIR": _made(room / "runtime")}
    settings = {name: str(place) for name, place in places.items()}
    command = ("demo", "--stay", "--no-mesh")
    with _running(command, settings, room / "demo.log", r"^The demo stays up.*\n") as said:
        asked = (*HEADRACE, "token")
        token = subprocess.run(asked, env={**os.environ, **settings}, capture_output=True, text=True, check=True)
        workers = dict(re.findall(r"worker of version (\d+) +(\S+)", said))
        (folder,) = places["TMPDIR"].glob("headrace-demo-*")
        yield Demo(folder, workers, token.stdout.strip(), room)
    assert [list(place.iterdir()) for place in places.values()] == [[], []]


@contextlib.contextmanager
def _running(arguments: tuple[str, ...], settings: Mapping[str, str], log: Path, ready: str) -> Iterator[str]:
    """A command of ours while inside, and what it has said by the time it is ready."""
    environment = {**os.environ, "PYTHONUNBUFFERED": "1", **settings}
    with log.open("wb") as output:
        child = subprocess.Popen([*HEADRACE, *arguments], env=environment, stdout=output, stderr=output)
    try:
        yield _until(child, log, re.compile(ready, re.MULTILINE))
    finally:
        _end(child)
    assert child.returncode == 0, log.read_text()


def _until(child: subprocess.Popen[bytes], log: Path, ready: re.Pattern[str]) -> str:
    deadline = time.monotonic() + _WAIT
    while not ready.search(said := log.read_text()):
        assert child.poll() is None and time.monotonic() < deadline, said
        time.sleep(0.02)
    return said


def _end(child: subprocess.Popen[bytes]) -> None:
    """In good order; where that takes too long, with all that it has started."""
    started = psutil.Process(child.pid).children(recursive=True) if child.poll() is None else []
    child.terminate()
    try:
        child.wait(_WAIT)
    except subprocess.TimeoutExpired:
        for one in (psutil.Process(child.pid), *started):
            with contextlib.suppress(psutil.NoSuchProcess):
                one.kill()
        child.wait()


def _made(folder: Path) -> Path:
    folder.mkdir(mode=0o700)
    return folder


def _counted(address: str, version: str) -> Counted:
    with grpc.insecure_channel(address) as channel:
        request = pb.ModelStatisticsRequest(name="digits", version=version)
        (found,) = GRPCInferenceServiceStub(channel).ModelStatistics(request, timeout=10).model_stats
    return Counted(found.inference_stats.success.count, found.inference_count)


async def _carried(socket: Path) -> int:
    async with aiohttp.ClientSession(connector=aiohttp.UnixConnector(str(socket))) as session:
        found = await Admin(session, "front").statistics([_ALL, _PYTHONS])
    return int(found[_ALL]) - int(found[_PYTHONS])
