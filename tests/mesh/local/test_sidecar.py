from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import aiohttp
import psutil
import pytest

from mesh.envoy.admin import Admin
from mesh.local import sidecar as module
from mesh.local.delivery import Delivery
from mesh.local.failure import MeshError
from mesh.local.files import File
from mesh.local.plan import Plan
from mesh.local.process import Envoy, start
from mesh.local.sidecar import Sidecar
from tests.envoy import needs_envoy
from tests.mesh.local.scene import (
    ALL,
    envoys_at,
    eventually,
    fleet,
    free_places,
    in_force,
    names,
    only,
    planned,
)

KEY = ("models", "one")
CERTIFICATE = File("[]", "1", "sds.default.version_text")


def plan() -> Plan:
    return only(planned(ALL, places=free_places()), KEY)


@contextlib.asynccontextmanager
async def made(folder: Path, run: Callable[[], Awaitable[Envoy]], told: list[str]) -> AsyncIterator[Sidecar]:
    """One whose Envoy is what `run` starts, so that how that behaves can be chosen."""
    found = plan()
    async with aiohttp.ClientSession() as session:
        admin = Admin(session, f"{found.workloads[KEY].proxy.ip}:15000")
        delivery = Delivery(folder / "one", admin, folder / "one.log")
        sidecar = Sidecar(found.workloads[KEY], found.configs[KEY], delivery, run, told.append)
        try:
            yield sidecar
        finally:
            await sidecar.stop()


def program(folder: Path, script: str) -> Callable[[], Awaitable[Envoy]]:
    path = folder / "envoy"
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return lambda: start(path, {}, folder / "one.log")


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(20):
        while not condition():
            await asyncio.sleep(0.01)


@needs_envoy
async def test_an_envoy_that_is_killed_is_told_and_another_does_the_same(tmp_path: Path) -> None:
    found, told = plan(), list[str]()
    address = found.workloads[KEY].proxy.ip
    async with fleet(tmp_path, told) as sidecars:
        await sidecars.carry_out(found)
        before = await in_force(address)
        (envoy,) = envoys_at(address)
        envoy.kill()
        await until(lambda: [one for one in envoys_at(address) if one.pid != envoy.pid])
        sidecar = sidecars._sidecars[address]
        async with asyncio.timeout(20):
            await sidecar.delivery.taken()
        assert await in_force(address) == before
    (words,) = told
    assert words.startswith("the Envoy beside one.models was killed by signal 9")
    assert words.endswith("another is started")


@needs_envoy
@pytest.mark.parametrize("silent", [3, 10**9])
async def test_an_envoy_that_hangs_is_killed_and_another_does_the_same(
    silent: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in (("_ASK", 0.05), ("_ANSWER", 0.3), ("_SILENT", silent)):
        monkeypatch.setattr(module, name, value)
    found, told = plan(), list[str]()
    address = found.workloads[KEY].proxy.ip
    async with fleet(tmp_path, told) as sidecars:
        await sidecars.carry_out(found)
        (envoy,) = envoys_at(address)
        await asyncio.sleep(0.5)
        assert not told  # one that answers is left alone
        envoy.suspend()
        try:
            if silent > 3:  # without the watch, it hangs for ever
                await asyncio.sleep(3)
                assert [one.pid for one in envoys_at(address)] == [envoy.pid]
                assert not told
                return
            await until(lambda: [one for one in envoys_at(address) if one.pid != envoy.pid])
        finally:
            with contextlib.suppress(psutil.Error):
                envoy.resume()
        async with asyncio.timeout(20):
            await sidecars._sidecars[address].delivery.taken()
    assert told[0] == f"the Envoy beside one.models (pid {envoy.pid}) does not answer: it is killed"
    assert told[1].startswith("the Envoy beside one.models was killed by signal 9")


@needs_envoy
async def test_it_leaves_nothing(tmp_path: Path) -> None:
    found = plan()
    address = found.workloads[KEY].proxy.ip
    async with fleet(tmp_path) as sidecars:
        await sidecars.carry_out(found)
        assert len(envoys_at(address)) == 1
        assert names(tmp_path) == [f"one.models@{address}", f"one.models@{address}.log"]
    assert not envoys_at(address)
    assert not names(tmp_path)


async def test_one_that_ends_at_once_is_not_up_and_leaves_nothing(tmp_path: Path) -> None:
    async with made(tmp_path, program(tmp_path, "echo 'no good'; exit 1"), []) as sidecar:
        with pytest.raises(MeshError, match="the Envoy beside one\\.models ended with code 1, saying:\n  no good"):
            await sidecar.start(CERTIFICATE)
    assert names(tmp_path) == ["envoy"]


async def test_one_that_does_not_come_up_is_not_waited_for_for_ever(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_UP", 0.1)
    async with made(tmp_path, program(tmp_path, "exec sleep 60"), []) as sidecar:
        with pytest.raises(MeshError, match=r"the Envoy beside one\.models was not up within 0\.1 s"):
            await sidecar.start(CERTIFICATE)
    assert names(tmp_path) == ["envoy"]


@needs_envoy
async def test_one_that_refuses_its_first_configuration_is_told_with_the_reason(tmp_path: Path) -> None:
    found = plan()
    address = found.workloads[KEY].proxy.ip
    server = await asyncio.start_server(lambda *_: None, address, 8101)
    async with server, fleet(tmp_path) as sidecars:
        words = r"one\.models: Envoy refuses it: .*Address already in use \(a process that listens at every address"
        with pytest.raises(MeshError, match=words):
            await sidecars.carry_out(found)
    assert not envoys_at(address)


async def test_while_envoys_do_not_stay_another_is_started_ever_more_seldom(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pauses: list[float] = []
    told: list[str] = []
    sleep = asyncio.sleep

    async def noted(seconds: float) -> None:
        if seconds > 0.1:  # shorter ones are looks at whether it is up, or there
            pauses.append(seconds)
        await sleep(0)

    async with made(tmp_path, program(tmp_path, "exit 1"), told) as sidecar:
        sidecar.delivery.folder.mkdir()
        sidecar.delivery.lay_out(sidecar.config)
        monkeypatch.setattr(module, "_ASK", 0.05)
        monkeypatch.setattr(module, "_SILENT", 10**9)  # no real Envoy answers here
        monkeypatch.setattr("mesh.local.sidecar.asyncio.sleep", noted)
        keeper = asyncio.create_task(sidecar._keep(await sidecar._run()))
        async with asyncio.timeout(20):
            while len(pauses) < 9:
                await sleep(0.01)
        keeper.cancel()
        await asyncio.gather(keeper, return_exceptions=True)
        assert sidecar._envoy is not None
        await sidecar._envoy.ended()
    assert pauses[:9] == [0.2, 0.4, 0.8, 1.6, 3.2, 5.0, 5.0, 5.0, 5.0]
    assert set(told) == {"the Envoy beside one.models ended with code 1\n  another is started"}


async def test_where_none_can_be_started_it_is_tried_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_AGAIN", 0.0)
    monkeypatch.setattr(module, "_LONGEST", 0.0)
    told: list[str] = []
    failures = [OSError(12, "Cannot allocate memory")]
    works = program(tmp_path, "exec sleep 60")

    async def run() -> Envoy:
        if failures:
            raise failures.pop()
        return await works()

    async with made(tmp_path, run, told) as sidecar:
        dead = await program(tmp_path, "exit 1")()
        await dead.ended()
        program(tmp_path, "exec sleep 60")
        sidecar._keeper = asyncio.create_task(sidecar._keep(dead))
        await until(lambda: sidecar._envoy is not None)
        assert sidecar._envoy is not None
        assert sidecar._envoy.process.returncode is None
    assert told[1].startswith("the Envoy beside one.models cannot be started: [Errno 12] Cannot allocate memory")


@needs_envoy
async def test_another_one_that_does_not_do_the_same_is_told(tmp_path: Path) -> None:
    """While none runs, someone else takes its port."""
    found, told = plan(), list[str]()
    address = found.workloads[KEY].proxy.ip
    async with fleet(tmp_path, told) as sidecars:
        await sidecars.carry_out(found)
        (envoy,) = envoys_at(address)
        envoy.kill()
        await until(lambda: told)
        async with await asyncio.start_server(lambda *_: None, address, 8101):
            await until(lambda: len(told) > 1)
    assert told[1].startswith("one.models: Envoy refuses it: ")
    assert "Address already in use" in told[1]


@needs_envoy
async def test_a_ctrl_c_while_one_starts_leaves_nothing(tmp_path: Path) -> None:
    found = plan()
    address = found.workloads[KEY].proxy.ip
    async with fleet(tmp_path) as sidecars:
        starting = asyncio.create_task(sidecars.carry_out(found))
        await until(lambda: envoys_at(address))
        starting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await starting
        eventually(lambda: not envoys_at(address), "its end")
        assert not names(tmp_path)
