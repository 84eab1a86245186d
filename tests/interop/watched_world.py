"""What is watched: two gateways with an Envoy in front, one direct and one in a mesh, before the same two workers.

All are processes of the command line, as users have them. What starts here ends here.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import os
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import numpy as np

from gateway.settings import load
from headrace.demo.issuer import Issuer
from headrace.demo.processes import ADMIN, READY, Child, running, together
from headrace.observability.prometheus import Targets
from headrace.rendering import source_of
from mesh.local.state import find
from mesh.render import folder as rendered
from mesh.render.files import render
from protos import grpc_service_pb2 as pb
from protos.grpc_service_pb2_grpc import GRPCInferenceServiceStub
from tests.gateway.certificates import Authority
from tests.gateway.world import unused_address
from tests.workers import zoo

VERSIONS = ("1", "2")
MODELS = {"digits": {}, "letters": {"admission": {}}, "faulty": {}}  # calls of `letters` are Python's
_FAULTY = """
class Model:
    def __init__(self, folder, config):
        pass

    def infer(self, inputs):
        raise ValueError("never")
"""
_PORTS = 'input { name: "image" data_type: TYPE_FP32 dims: [-1, 64] }'
_PORTS += ' output { name: "label" data_type: TYPE_FP32 dims: [-1, 64] }'
_BATCHED = "max_batch_size: 8\ndynamic_batching { max_queue_delay_microseconds: 1000 }"
_WAIT = 60.0


@dataclass
class Worker:
    """Its version, where it serves calls and metrics, and its process while it runs."""

    version: str
    address: str
    metrics: str
    repository: Path
    stack: contextlib.AsyncExitStack = field(default_factory=contextlib.AsyncExitStack)
    child: Child | None = None

    async def start(self, folder: Path) -> None:
        command = ["worker", "--repository", str(self.repository), "--listen", self.address, "--metrics", self.metrics]
        name = f"worker {self.version}"
        self.child = await self.stack.enter_async_context(running(name, [*command, "--drain", "1s"], folder))
        await self.child.says(READY, _WAIT)

    async def stop(self) -> None:
        await self.stack.aclose()
        self.child = None

    @property
    def pid(self) -> int:
        assert self.child is not None
        return self.child.process.pid


@dataclass(frozen=True)
class Gateway:
    """Where callers and operators come in, and its configuration."""

    address: str
    admin: str
    config: Path

    def configure(self, text: str) -> str:
        """Another configuration; what was there before."""
        before = self.config.read_text()
        beside = self.config.with_suffix(".new")
        beside.write_text(text)
        beside.replace(self.config)
        return before


@dataclass
class World:
    """The gateways by mode, the workers by version, the sidecars' admin pages, and where spans go: nobody is there.

    `called`: the models that are called now and then, besides `digits`.
    """

    folder: Path
    issuer: Issuer
    ca: bytes
    workers: dict[str, Worker]
    gateways: dict[str, Gateway]
    sidecars: list[str]
    collector: str
    called: set[str] = field(default_factory=lambda: {"letters"})

    @property
    def targets(self) -> Targets:
        admin = [gateway.admin for gateway in self.gateways.values()]
        return Targets(admin, [worker.metrics for worker in self.workers.values()], self.sidecars)

    @contextlib.asynccontextmanager
    async def load(self, pause: float = 0.02) -> AsyncIterator[None]:
        """Calls of every kind by each gateway, while inside."""
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(self._calls(gateway, pause)) for gateway in self.gateways.values()]
            try:
                yield
            finally:
                for task in tasks:
                    task.cancel()

    async def _calls(self, gateway: Gateway, pause: float) -> None:
        may, limited, other = (
            f"Bearer {self.issuer.token('me', scope)}" for scope in ("infer:digits", "few:digits", "nothing")
        )
        trust = grpc.ssl_channel_credentials(self.ca)
        async with grpc.aio.secure_channel(gateway.address.replace("127.0.0.1", "localhost"), trust) as channel:
            stub = GRPCInferenceServiceStub(channel)
            for number in itertools.count():
                await asyncio.gather(*(_call(stub, may) for _ in range(4)), _call(stub, may, str(number % 2 + 1)))
                if number % 4 == 0:
                    await asyncio.gather(*(_call(stub, may, model=model) for model in self.called))
                    await asyncio.gather(_call(stub, limited), _call(stub, other), _call(stub, "Bearer nonsense"))
                    await _stream(stub, may)
                await asyncio.sleep(pause)


async def _call(stub: GRPCInferenceServiceStub, token: str, version: str = "", model: str = "digits") -> None:
    with contextlib.suppress(grpc.aio.AioRpcError):
        await stub.ModelInfer(request(version, model), metadata=[("authorization", token)], timeout=2)


async def _stream(stub: GRPCInferenceServiceStub, token: str) -> None:
    with contextlib.suppress(grpc.aio.AioRpcError):
        call = stub.ModelStreamInfer(iter([request(), request()]), metadata=[("authorization", token)], timeout=2)
        async for _answer in call:
            pass


def request(version: str = "", model: str = "digits") -> pb.ModelInferRequest:
    image = pb.ModelInferRequest.InferInputTensor(name="image", datatype="FP32", shape=[1, 64])
    pixels = np.zeros((1, 64), np.float32).tobytes()
    return pb.ModelInferRequest(model_name=model, model_version=version, inputs=[image], raw_input_contents=[pixels])


@contextlib.asynccontextmanager
async def watched(folder: Path) -> AsyncIterator[World]:
    """All of it is up."""
    authority, collector = Authority(), unused_address()
    certificate, key = authority.issue("localhost")
    for name, content in (("server.pem", certificate), ("server.key", key)):
        (folder / name).write_bytes(content)
    workers = {version: _worker(folder, version) for version in VERSIONS}
    async with contextlib.AsyncExitStack() as stack:
        issuer = await stack.enter_async_context(Issuer().serving())
        for worker in workers.values():
            stack.push_async_callback(worker.stop)
        await asyncio.gather(*(worker.start(folder) for worker in workers.values()))
        settings = _settings(issuer.url, workers, f"http://{collector}")
        mesh = await _mesh(stack, folder, settings)
        gateways = await _gateways(stack, folder, settings, await mesh.says(READY, _WAIT))
        sidecars = [beside.admin for beside in find(folder / "istio", os.environ).workloads]
        yield World(folder, issuer, authority.pem, workers, gateways, sidecars, collector)


def _worker(folder: Path, version: str) -> Worker:
    repository = folder / f"models-{version}"
    graph = zoo.graph("Identity", {"image": ("n", 64)}, {"label": ("n", 64)})
    for model in ("digits", "letters"):
        zoo.put(repository, model, graph, version=int(version), config=_BATCHED)
    zoo.python(repository, "faulty", _FAULTY, _PORTS, version=int(version))
    return Worker(version, unused_address(), unused_address(), repository)


async def _mesh(stack: contextlib.AsyncExitStack, folder: Path, settings: dict[str, Any]) -> Child:
    source = folder / "mesh.yaml"
    source.write_text(json.dumps(settings | {"upstream": settings["upstream"] | {"mode": "mesh"}}))
    resources = folder / "istio"
    rendered.apply(resources, rendered.changes(render(source_of(load(source, {})), {}), {}))
    return await stack.enter_async_context(
        running("mesh", ["mesh", "up", str(resources), "--proxy", "127.0.0.1:0"], folder)
    )


async def _gateways(
    stack: contextlib.AsyncExitStack, folder: Path, settings: dict[str, Any], proxy: str
) -> dict[str, Gateway]:
    upstream = settings["upstream"]
    modes = {"direct": upstream, "mesh": upstream | {"mode": "mesh", "proxy": proxy}}
    configs = {mode: folder / f"{mode}.yaml" for mode in modes}
    for mode, config in configs.items():
        own = {"upstream": modes[mode], "audit": {"file": f"{mode}.jsonl"}}
        config.write_text(json.dumps(settings | own, indent=1))
    commands = {f"gateway {mode}": ["gateway", "--config", str(config)] for mode, config in configs.items()}
    children = await stack.enter_async_context(together(commands, folder))
    return {
        mode: Gateway(await child.says(READY, _WAIT), await child.says(ADMIN, _WAIT), configs[mode])
        for mode, child in zip(modes, children, strict=True)
    }


def _settings(issuer: str, workers: dict[str, Worker], otlp: str) -> dict[str, Any]:
    may = {"models": list(MODELS), "actions": ["infer", "inspect"]}
    return {
        "listen": {
            "address": "127.0.0.1:0",
            "admin": "127.0.0.1:0",
            "notice": "1ms",
            "drain": "1s",
            "express": "on",
            "tls": {"certificate": "server.pem", "key": "server.key"},
        },
        "issuers": [{"issuer": issuer, "audiences": ["headrace"], "algorithms": ["ES256"]}],
        "grants": [
            {"name": "readers", "to": {"issuer": issuer, "claims": {"scope": "infer:digits"}}, **may},
            {
                "name": "sparing",
                "to": {"issuer": issuer, "claims": {"scope": "few:digits"}},
                **may,
                "limits": {"rate": "1/s", "burst": 1},
            },
        ],
        "models": [_model(name) for name in MODELS],
        "upstream": {"endpoints": {name: {one.version: [one.address] for one in workers.values()} for name in MODELS}},
        "telemetry": {"otlp": otlp, "sample": 0.1, "log_format": "text"},
    }


def _model(name: str) -> dict[str, Any]:
    return {
        "name": name,
        "host": "worker.models.svc.cluster.local:8001",
        "versions": {version: {"version": f"v{version}"} for version in VERSIONS},
        "aliases": {"canary": "2"},
        "traffic": {"1": 90, "2": 10},
        "timeout": "2s",
        "retries": {"attempts": 1, "per_try": "500ms"},
        "ejection": {"errors": 3, "interval": "250ms", "time": "2s", "most": "100%"},
        **MODELS[name],
    }
