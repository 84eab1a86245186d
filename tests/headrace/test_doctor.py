"""`headrace doctor` finds what is wrong, each fault planted on real servers and real files, and says what to do."""

from __future__ import annotations

import asyncio
import contextlib
import importlib.metadata
import json
import os
import socket
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from importlib.metadata import Distribution, PackageNotFoundError
from pathlib import Path
from time import time
from typing import Any

import grpc.aio
import pytest
from aiohttp import web

from gateway.server import serving
from gateway.settings import load
from headrace import cli
from headrace.doctor import gpu, issuers, limits, workers
from headrace.doctor.examine import examined
from headrace.doctor.finding import Check, Finding
from headrace.doctor.packages import required
from headrace.doctor.runner import found
from headrace.doctor.shown import as_json, as_lines
from protos import grpc_service_pb2 as pb
from protos.grpc_service_pb2_grpc import GRPCInferenceServiceStub
from tests.envoy import needs_envoy
from tests.gateway.certificates import Authority
from tests.gateway.tokens import Issuer
from tests.gateway.world import SERVICE, Worker, failing, running, unused_address
from tests.workers import zoo
from workers.server import Options
from workers.server import serving as worker_serving


@dataclass
class Machine:
    """A configuration with which all is well, and what it names; tests spoil it."""

    folder: Path
    config: dict[str, Any]
    jwks: dict[str, str] = field(default_factory=dict)  # headers of the answer
    body: bytes = b""

    @property
    def path(self) -> Path:
        path = self.folder / "headrace.yaml"
        path.write_text(json.dumps(self.config))
        return path

    def certified(self, authority: Authority) -> None:
        for name, pem in zip(("server.pem", "server.key"), authority.issue("127.0.0.1"), strict=True):
            (self.folder / name).write_bytes(pem)
            (self.folder / name).chmod(0o600)

    async def findings(
        self, find_distribution: Callable[[str], Distribution] = importlib.metadata.distribution
    ) -> list[Finding]:
        return await examined(self.path, {}, find_distribution)

    async def error(self, **more: Any) -> Finding:
        """The only one."""
        (error,) = [one for one in await self.findings(**more) if one.level == "error"]
        assert error.do
        return error


@contextlib.asynccontextmanager
async def http(machine: Machine) -> AsyncIterator[str]:
    async def jwks(_: web.Request) -> web.Response:
        return web.Response(body=machine.body, headers=machine.jwks)

    app = web.Application()
    app.add_routes([web.get("/jwks.json", jwks)])
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        host, port = runner.addresses[0]
        yield f"http://{host}:{port}/jwks.json"
    finally:
        await runner.cleanup()


def configuration(jwks: str, worker: str) -> dict[str, Any]:
    name = Issuer().name
    return {
        "listen": {
            "address": unused_address(),
            "admin": unused_address(),
            "express": "off",
            "tls": {"certificate": "server.pem", "key": "server.key"},
        },
        "issuers": [{"issuer": name, "audiences": ["headrace"], "jwks": jwks, "algorithms": ["ES256"]}],
        "grants": [{"to": {"issuer": name}, "models": ["*"], "actions": ["infer"]}],
        "models": [{"name": "add", "host": "add.svc:8001", "versions": {"1": {"version": "v1"}}}],
        "upstream": {"endpoints": {"add": {"1": worker}}},
        "telemetry": {"access_log": "logs/access.log"},
    }


@pytest.fixture
async def machine(tmp_path: Path) -> AsyncIterator[Machine]:
    (tmp_path / "logs").mkdir()
    zoo.add(tmp_path / "models")
    made = Machine(tmp_path, {}, body=Issuer().jwks())
    made.certified(Authority(timedelta(days=60)))
    async with http(made) as jwks, worker_serving(Options(tmp_path / "models", "127.0.0.1:0")) as worker:
        made.config = configuration(jwks, worker)
        yield made


async def test_all_is_well(machine: Machine) -> None:
    findings = await machine.findings()
    assert [one for one in findings if one.level == "error"] == []
    assert {one.area for one in findings} >= {
        *("packages", "configuration", "permissions", "ports", "certificates", "keys", "clock", "workers"),
        *("envoy", "gpu", "limits"),
    }
    assert all(one.do for one in findings if one.level != "ok")
    said = {one.what for one in findings}
    assert "keys of https://id.example/ for ES256: k1" in said
    assert f"add version 1 at {machine.config['upstream']['endpoints']['add']['1']} is ready" in said


async def test_a_missing_package(machine: Machine) -> None:
    def without(name: str) -> Distribution:
        if name == "pyyaml":
            raise PackageNotFoundError(name)
        return importlib.metadata.distribution(name)

    error = await machine.error(find_distribution=without)
    assert error.what == "the package pyyaml is not installed"
    assert error.do.startswith("run pip install 'pyyaml>=")


async def test_a_wrong_protobuf(machine: Machine) -> None:
    class Old(Distribution):
        version = "5.29.5"

        def read_text(self, filename: str) -> None:
            return None

        def locate_file(self, path: object) -> Any:
            raise NotImplementedError

    error = await machine.error(
        find_distribution=lambda name: Old() if name == "protobuf" else importlib.metadata.distribution(name)
    )
    assert error.what.startswith("protobuf is 5.29.5, but headrace needs ")
    assert "'protobuf" in error.do


async def test_a_package_that_cannot_be_imported(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "headrace.doctor.every", None)
    error = await machine.error()
    assert error.what.startswith("headrace cannot be imported: ModuleNotFoundError: ")


async def test_a_port_that_is_taken(machine: Machine) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        taken = machine.config["listen"]["address"] = f"127.0.0.1:{other.getsockname()[1]}"
        error = await machine.error()
    assert error.what.startswith(f"somebody listens at {taken} (listen.address), and no /readyz says")


async def test_a_port_that_another_site_has(machine: Machine) -> None:
    machine.config["listen"]["admin"] = machine.config["issuers"][0]["jwks"].split("/")[2]
    error = await machine.error()
    assert "(listen.admin), and no /readyz says that it is headrace" in error.what


async def test_a_gateway_that_runs(machine: Machine) -> None:
    machine.config["listen"].pop("tls")
    async with serving(load(machine.path, {})):
        said = {one.what: one.level for one in await machine.findings()}
    for key in ("address", "admin"):
        at = f"{machine.config['listen'][key]} (listen.{key})"
        assert said[f"somebody listens at {at}: headrace, says /readyz, ready"] == "ok"


async def test_a_gateway_that_runs_and_is_not_ready(machine: Machine) -> None:
    machine.config["listen"].pop("tls")
    machine.config["issuers"][0]["jwks"] = f"http://{unused_address()}/"
    async with serving(load(machine.path, {})):
        said = [one for one in await machine.findings() if one.area == "ports"]
    assert [one.level for one in said] == ["warning", "warning"]
    assert all("headrace, says /readyz, not ready: it has no issuer's keys" in one.what for one in said)


async def test_an_address_that_is_not_this_machines(machine: Machine) -> None:
    machine.config["listen"]["address"] = "192.0.2.1:8080"
    error = await machine.error()
    assert error.what.startswith("192.0.2.1:8080 (listen.address) cannot be taken: ")


async def test_an_unreadable_key(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    key = machine.folder / "server.key"
    key.chmod(0)
    opened = Path.open

    def refused(path: Path, *arguments: Any, **more: Any) -> Any:  # for root, whom no mode keeps out
        if path == key:
            raise PermissionError(13, "Permission denied")
        return opened(path, *arguments, **more)

    monkeypatch.setattr(Path, "open", refused)
    error = await machine.error()
    assert f"listen.tls.key: {key} cannot be read: Permission denied" in error.what
    assert "chmod" in error.do


async def test_a_key_that_anybody_can_read(machine: Machine) -> None:
    (machine.folder / "server.key").chmod(0o644)
    (warning,) = [one for one in await machine.findings() if one.area == "permissions" and one.level == "warning"]
    assert warning.do == f"run chmod o-r {machine.folder / 'server.key'}"


async def test_an_audit_that_cannot_be_written(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    machine.config["audit"] = {"file": "logs/audit.jsonl"}
    assert "audit.jsonl can be written, and not by anybody" in str(await machine.findings())
    logs, access = machine.folder / "logs", os.access
    monkeypatch.setattr(os, "access", lambda path, mode: Path(path) != logs and access(path, mode))
    del machine.config["telemetry"]
    error = await machine.error()
    assert "audit.file: " in error.what and "cannot be written" in error.what
    assert "chown" in error.do


async def test_an_audit_that_anybody_can_change(machine: Machine) -> None:
    machine.config["audit"] = {"file": "logs/audit.jsonl"}
    (machine.folder / "logs" / "audit.jsonl").touch(0o666)
    (machine.folder / "logs" / "audit.jsonl").chmod(0o666)
    (warning,) = [one for one in await machine.findings() if one.area == "permissions" and one.level == "warning"]
    assert warning.do == f"run chmod o-w {machine.folder / 'logs' / 'audit.jsonl'}"


@pytest.mark.parametrize(
    ("lifetime", "level", "words"), [(timedelta(seconds=-30), "error", "expired"), (timedelta(3), "warning", "soon")]
)
async def test_a_certificate_that_ends(machine: Machine, lifetime: timedelta, level: str, words: str) -> None:
    machine.certified(Authority(lifetime))
    (finding,) = [one for one in await machine.findings() if one.area == "certificates"]
    assert finding.level == level
    assert words in finding.what
    assert finding.do


async def test_an_issuer_that_is_down(machine: Machine) -> None:
    machine.config["issuers"][0]["jwks"] = f"http://{unused_address()}/jwks.json?key=secret"
    error = await machine.error()
    assert error.what.startswith("keys of https://id.example/ cannot be had: ")
    assert "secret" not in error.what + error.do


async def test_keys_that_fit_no_algorithm(machine: Machine) -> None:
    machine.config["issuers"][0]["algorithms"] = ["RS256"]
    error = await machine.error()
    assert error.what == "none of 1 keys of https://id.example/ is for RS256"


async def test_no_keys_at_all(machine: Machine) -> None:
    machine.body = b"<html>"
    error = await machine.error()
    assert "not a JWK Set" in error.what


@pytest.mark.parametrize(("ago", "side"), [(3600, "ahead of"), (-3600, "behind")])
async def test_a_clock_that_is_wrong(machine: Machine, ago: int, side: str) -> None:
    machine.jwks["Date"] = _date(ago)
    error = await machine.error()
    assert error.area == "clock"
    assert f"s {side} that of https://id.example/, more than its leeway of 30 s" in error.what


async def test_an_answer_out_of_a_cache_has_an_age(machine: Machine) -> None:
    machine.jwks |= {"Date": _date(3600), "Age": "3600"}
    (clock,) = [one for one in await machine.findings() if one.area == "clock"]
    assert clock.level == "ok"


def _date(ago: int) -> str:
    return format_datetime(datetime.fromtimestamp(time() - ago, UTC), usegmt=True)


async def test_a_model_that_the_worker_does_not_have(machine: Machine) -> None:
    _renamed(machine, "addd")
    error = await machine.error()
    assert error.what.startswith("addd version 1 at ")
    assert "NOT_FOUND" in error.what
    assert "it has add 1" in error.what


async def test_a_model_file_that_cannot_be_read(machine: Machine) -> None:
    zoo.put(machine.folder / "models", "broken", b"no graph")
    async with grpc.aio.insecure_channel(machine.config["upstream"]["endpoints"]["add"]["1"]) as channel:
        with pytest.raises(grpc.aio.AioRpcError):
            await GRPCInferenceServiceStub(channel).RepositoryModelLoad(
                pb.RepositoryModelLoadRequest(model_name="broken")
            )
    _renamed(machine, "broken")
    error = await machine.error()
    assert error.what.startswith("broken version 1 at ")
    assert "; its state is UNAVAILABLE: " in error.what
    assert error.what.endswith("ONNX Runtime cannot read model.onnx")


def _renamed(machine: Machine, name: str) -> None:
    machine.config["models"][0]["name"] = name
    endpoints = machine.config["upstream"]["endpoints"]
    endpoints[name] = endpoints.pop("add")


async def test_a_worker_that_is_down(machine: Machine) -> None:
    dead = machine.config["upstream"]["endpoints"]["add"]["1"] = unused_address()
    error = await machine.error()
    assert error.what.startswith(f"no worker answers at {dead}, for add version 1: UNAVAILABLE ")


async def test_nobody_is_waited_for_long(machine: Machine) -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        address = f"127.0.0.1:{silent.getsockname()[1]}"
        machine.config["issuers"][0]["jwks"] = f"http://{address}/"
        machine.config["upstream"]["endpoints"]["add"]["1"] = address
        settings = load(machine.path, {})
        (keys,) = [one async for one in issuers.issuer(settings.issuers[0], time, 0.1)]
        (worker,) = [one async for one in workers.worker(workers.targets(settings)[0], 0.1)]
    assert keys.what == "keys of https://id.example/ cannot be had: no answer in time"
    assert worker.what.startswith(f"no worker answers at {address}, for add version 1: ")


async def test_keys_in_a_file_tell_no_time(machine: Machine) -> None:
    (machine.folder / "jwks.json").write_bytes(machine.body)
    machine.config["issuers"][0]["jwks"] = "file:jwks.json"
    (clock,) = [one for one in await machine.findings() if one.area == "clock"]
    assert clock.what.startswith("the clock was not compared")


async def test_the_sidecar_is_asked_in_a_mesh(machine: Machine) -> None:
    async with running(Worker({SERVICE + "ModelReady": failing(grpc.StatusCode.UNAVAILABLE, "no healthy")})) as proxy:
        machine.config["upstream"] = {"mode": "mesh", "proxy": proxy.address}
        error = await machine.error()
    assert error.what.startswith(f"add version 1 at {proxy.address}: UNAVAILABLE no healthy")
    assert {"x-model-name": "add", "x-model-version": "1"}.items() <= proxy.calls[1][2].items()


async def test_grpcs_own_xds_client_needs_a_bootstrap(machine: Machine) -> None:
    machine.config["upstream"] = {"mode": "xds"}
    machine.config["models"][0]["host"] = "add.models.svc.cluster.local:8001"
    (finding,) = [one for one in await machine.findings() if one.area == "workers"]
    assert finding.level == "warning"
    assert "GRPC_XDS_BOOTSTRAP" in finding.do


async def test_a_bad_key_in_the_configuration(machine: Machine) -> None:
    machine.config["listen"]["adress"] = machine.config["listen"].pop("address")
    findings = await machine.findings()
    (error,) = [one for one in findings if one.level == "error"]
    assert error.what.endswith("listen.adress: unknown key; did you mean address?")
    assert {one.area for one in findings} >= {"packages", "envoy", "gpu", "limits"}  # which need no configuration


async def test_no_envoy(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", str(machine.folder / "python"))
    monkeypatch.setenv("PATH", str(machine.folder))
    machine.config["listen"]["express"] = "on"
    assert "there is no envoy" in (await machine.error()).what
    machine.config["listen"]["express"] = "auto"
    (finding,) = [one for one in await machine.findings() if one.area == "envoy"]
    assert finding.level == "warning"


@needs_envoy
async def test_an_envoy(machine: Machine) -> None:
    machine.config["listen"]["express"] = "on"
    (finding,) = [one for one in await machine.findings() if one.area == "envoy"]
    assert finding.what.startswith("Envoy: ")


async def test_a_read_only_folder_of_the_access_log(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    logs = machine.folder / "logs"
    logs.chmod(0o500)
    access = os.access
    monkeypatch.setattr(os, "access", lambda path, mode: Path(path) != logs and access(path, mode))  # root may
    error = await machine.error()
    assert error.what.endswith(f"telemetry.access_log: {logs / 'access.log'} cannot be written")
    assert "chmod" in error.do


async def test_a_check_that_fails_is_a_finding() -> None:
    def broken() -> Iterator[Finding]:
        yield Finding("one", "ok", "seen")
        raise RuntimeError("no such luck")

    async def fine() -> AsyncIterator[Finding]:
        yield Finding("two", "ok", "all is well")

    first, failed, other = await found([Check("one", broken), Check("two", fine)])
    assert (first.what, other.what) == ("seen", "all is well")
    assert (failed.level, failed.what) == ("error", "the check of one failed: RuntimeError: no such luck")


async def test_what_a_remote_says_is_one_line_and_moves_no_cursor(machine: Machine) -> None:
    words = "\x1b[2J\nok       all is well\x85" + "x" * 5000
    async with running(Worker({SERVICE + "ServerLive": failing(grpc.StatusCode.UNAVAILABLE, words)})) as worker:
        machine.config["upstream"]["endpoints"]["add"]["1"] = worker.address
        error = await machine.error()
    what, do = as_lines([error])
    assert what.startswith("error    no worker answers at ")
    assert do.startswith("         -> start it")
    for text in (what, json.loads(as_json([error]))[0]["what"]):
        assert text.isprintable()
        assert len(text) < 700


async def test_the_command(machine: Machine, capsys: pytest.CaptureFixture[str]) -> None:
    assert await asyncio.to_thread(cli.run, ["doctor", "--config", str(machine.path), "-o", "json"]) == 0
    assert {one["level"] for one in json.loads(capsys.readouterr().out)} <= {"ok", "warning"}
    machine.config["listen"]["express"] = "perhaps"
    assert await asyncio.to_thread(cli.run, ["doctor", "--config", str(machine.path)]) == 1
    lines = capsys.readouterr().out.splitlines()
    at = next(number for number, line in enumerate(lines) if line.startswith("error    "))
    assert "listen.express" in lines[at]
    assert lines[at + 1].startswith("         -> ")


def test_without_a_configuration(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert cli.run(["doctor"]) == 0
    assert "warning  there is no headrace.yaml here" in capsys.readouterr().out


def test_requirements_and_their_bounds() -> None:
    one, other = required(["pyjwt[crypto]<3,>=2.15.1", 'ml-dtypes>=0.5; extra == "worker"'])
    assert (one.name, one.bounds, one.optional) == ("pyjwt", "<3,>=2.15.1", False)
    assert (other.name, other.optional) == ("ml-dtypes", True)
    assert [version for version in ("2.15", "2.15.1", "2.100.0", "3.0rc1", "3") if one.admits(version)] == [
        "2.15.1",
        "2.100.0",
    ]


@pytest.mark.parametrize(
    ("cards", "providers", "level"),
    [
        (["nvidia0"], ["CUDAExecutionProvider"], "ok"),
        (["nvidia0"], ["CPUExecutionProvider"], "warning"),
        ([], ["CUDAExecutionProvider"], "warning"),
        ([], [], "ok"),
    ],
)
def test_gpu_and_provider(tmp_path: Path, cards: list[str], providers: list[str], level: str) -> None:
    for name in (*cards, "nvidiactl"):
        (tmp_path / name).touch()
    (finding,) = gpu.gpu(tmp_path, lambda: providers)
    assert finding.level == level


def test_room_on_disk(tmp_path: Path) -> None:
    (finding,) = limits.disk([tmp_path / "nowhere"], lambda folder: folder.stat().st_size)
    assert finding.level == "error"
    for mib, level in ((5, "error"), (100, "warning"), (1000, "ok")):
        (finding,) = limits.disk([tmp_path], lambda _, mib=mib: mib * 1024**2)
        assert finding.level == level


def test_memory_is_what_the_cgroups_leave(tmp_path: Path) -> None:
    files = {
        "proc/meminfo": "MemTotal: 9000000 kB\nMemAvailable:    4194304 kB\n",
        "proc/self/cgroup": "0::/system.slice/gateway.service\n",
        "sys/fs/cgroup/system.slice/memory.max": "536870912\n",
        "sys/fs/cgroup/system.slice/memory.current": "268435456\n",
        "sys/fs/cgroup/system.slice/gateway.service/memory.max": "max\n",
    }
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    left = limits.available(tmp_path)
    assert left == 256 * 1024**2
    assert [one.level for one in limits.memory(left, 1, 64 * 1024**2)] == ["warning"]
    assert [one.level for one in limits.memory(left, 1, 1024**2)] == ["ok"]
    assert limits.available(tmp_path / "elsewhere") is None


def test_open_files() -> None:
    assert [one.level for most in (1024, 1 << 20, -1) for one in limits.files(most)] == ["warning", "ok", "ok"]
