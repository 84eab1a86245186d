"""A gateway with TLS before the demo's model, and before models that fail, each for one reason of the README's."""

from __future__ import annotations

import asyncio
import contextlib
import json
import struct
import time
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
import grpc.aio

from gateway.server import serving
from gateway.settings import load
from headrace.demo import digits, repository, samples
from headrace.demo.digits import Trained
from headrace.express import front
from protos import grpc_service_pb2 as pb
from protos import tracing
from protos.grpc_service_pb2_grpc import GRPCInferenceServiceStub
from tests.envoy import ENVOY
from tests.gateway.certificates import Authority
from tests.gateway.tokens import Issuer
from tests.gateway.world import INFER, Worker, running, unused_address
from tests.workers import zoo
from workers.server import Options
from workers.server import serving as worker_serving

SEVEN = pb.ModelInferResponse(
    outputs=[pb.ModelInferResponse.InferOutputTensor(name="label", datatype="INT64", shape=[1])],
    raw_output_contents=[struct.pack("<q", 7)],
).SerializeToString()
FAULTS = ("full", "busy", "waking", "broken", "slow", "silent")


@dataclass
class Faults:
    """What the models of a worker do that fail; `calls` is when each model was called, monotonic, in seconds."""

    calls: dict[str, list[float]] = field(default_factory=dict)

    async def answer(self, message: bytes, context: grpc.aio.ServicerContext) -> bytes:
        """Behave as the model does whose name the message has."""
        name = pb.ModelInferRequest.FromString(message).model_name
        calls = self.calls.setdefault(name, [])
        calls.append(time.monotonic())
        first = len(calls) == 1
        if name == "full" or (name == "busy" and first):
            await context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, "the queue is full")
        if name == "waking" and first:
            await context.abort(grpc.StatusCode.UNAVAILABLE, "loading")
        if name == "broken":
            await context.abort(grpc.StatusCode.INTERNAL, "CUDA error at 0x7f")
        if name in {"slow", "silent"}:
            await asyncio.sleep(60)
        return SEVEN


@dataclass(frozen=True)
class ClientWorld:
    """The gateway's address, whom its callers trust, the demo's samples, its issuer, a good token, and who fails."""

    address: str
    ca: Path
    samples: Path
    issuer: Issuer
    token: str
    faults: Faults
    log: Path
    express: bool

    def answered(self) -> Counter[str]:
        """How many calls of `digits` each lane has answered well, as far as the access log tells by now."""
        lines = [json.loads(line) for line in self.log.read_text().splitlines()]
        good = (line for line in lines if line["rpc.response.status_code"] == "OK")
        return Counter(line[tracing.LANE] for line in good if line.get(tracing.MODEL) == "digits")


@contextlib.asynccontextmanager
async def client_world(folder: Path, trained: Trained, *, express: bool) -> AsyncIterator[ClientWorld]:
    """By either lane; on the express one, what Envoy can carry has been decided before."""
    issuer, authority, faults = Issuer(), Authority(), Faults()
    token = issuer.token(exp=int(time.time()) + 3600)
    (folder / "jwks.json").write_bytes(issuer.jwks())
    certificate, key = authority.issue("localhost")
    for name, content in (("ca.pem", authority.pem), ("server.pem", certificate), ("server.key", key)):
        (folder / name).write_bytes(content)
    _, held = digits.pictures()
    samples.write(folder / "samples", held)
    models = repository.write(folder / "models", trained)
    zoo.put(models, "wide", zoo.graph("Identity", {"image": ("n", 128)}, {"label": ("n", 128)}))
    async with contextlib.AsyncExitStack() as stack:
        worker = await stack.enter_async_context(worker_serving(Options(models, "127.0.0.1:0")))
        failing = await stack.enter_async_context(running(Worker({INFER: faults.answer})))
        config = folder / "headrace.yaml"
        config.write_text(json.dumps(_settings(folder, issuer, trained.version, worker, failing.address)))
        settings = load(config, {})
        made = front(settings, folder, Path(ENVOY or "")) if express else None
        addresses = await stack.enter_async_context(serving(settings, environ={}, front=made))
        address = f"localhost:{addresses.grpc.rpartition(':')[2]}"
        if express:
            await _rehearsed(address, authority.pem, token)
            faults.calls.clear()
        shown = folder / "samples"
        yield ClientWorld(address, folder / "ca.pem", shown, issuer, token, faults, folder / "access.log", express)


def _settings(folder: Path, issuer: Issuer, version: str, worker: str, failing: str) -> dict[str, Any]:
    model = {"host": "w.svc:8001", "retries": {"attempts": 0}, "timeout": "30s"}
    differs = {"slow": {"timeout": "300ms"}, "small": {"max_request": "100B"}}
    versions = {"digits": version, **dict.fromkeys(("wide", "small", "dead", "secret", *FAULTS), "1")}
    copies = {"digits": worker, "wide": worker, "dead": unused_address()}
    return {
        "listen": {
            "address": "127.0.0.1:0",
            "admin": None,
            "notice": "1ms",
            "tls": {"certificate": "server.pem", "key": "server.key"},
        },
        "issuers": [
            {
                "issuer": issuer.name,
                "audiences": ["headrace"],
                "jwks": "file:jwks.json",
                "algorithms": ["ES256"],
                "leeway": "1s",
            }
        ],
        "grants": [
            {
                "to": {"issuer": issuer.name},
                "models": [*(name for name in versions if name != "secret"), "ghost*"],
                "actions": ["infer", "inspect"],
            }
        ],
        "models": [
            {"name": name, "versions": {number: {"version": f"v{number}"}}, **model, **differs.get(name, {})}
            for name, number in versions.items()
        ],
        "upstream": {"endpoints": {name: {number: [copies.get(name, failing)]} for name, number in versions.items()}},
        "telemetry": {"access_log": str(folder / "access.log")},
    }


async def _rehearsed(address: str, roots: bytes, token: str) -> None:
    """One call of each model that can be called: from the next on, Envoy carries them."""
    async with grpc.aio.secure_channel(address, grpc.ssl_channel_credentials(roots)) as channel:
        stub = GRPCInferenceServiceStub(channel)
        for name in ("digits", "wide", "dead", *FAULTS):
            with contextlib.suppress(grpc.aio.AioRpcError):
                metadata = [("authorization", f"Bearer {token}")]
                await stub.ModelInfer(pb.ModelInferRequest(model_name=name), timeout=0.5, metadata=metadata)
