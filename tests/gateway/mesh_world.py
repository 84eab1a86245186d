"""A gateway behind a real mesh, for tests: rendered resources, real Envoys, and stand-ins for the workers."""

from __future__ import annotations

import contextlib
import json
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc.aio

from gateway.server import serving
from gateway.settings import load
from headrace.express import front
from headrace.rendering import source_of
from mesh.render import folder
from mesh.render.files import render
from mesh.testing import Mesh, running
from protos import grpc_service_pb2 as pb
from tests.envoy import ENVOY
from tests.gateway.tokens import Issuer
from tests.gateway.world import CLIENT, INFER, STREAM, Metadata

HOST = "digits.models.svc.cluster.local:8001"
COPIES = {"1": ("127.0.0.1:8101", "127.0.0.1:8102"), "2": ("127.0.0.1:8103",)}  # stand-ins listen elsewhere


def configuration(issuer: Issuer, **model: Any) -> dict[str, Any]:
    """`digits`, one host, version 1 with two copies and 2 with one, all calls that name none to version 1."""
    return {
        "listen": {"address": "127.0.0.1:0", "admin": None, "notice": "1ms"},
        "issuers": [
            {"issuer": issuer.name, "audiences": ["headrace"], "jwks": "file:jwks.json", "algorithms": ["ES256"]}
        ],
        "grants": [{"to": {"issuer": issuer.name}, "models": ["*"], "actions": ["infer", "inspect", "manage"]}],
        "models": [
            {
                "name": "digits",
                "host": HOST,
                "versions": {"1": {"version": "v1"}, "2": {"version": "v2"}},
                "aliases": {"canary": "2"},
                "traffic": {"1": 100, "2": 0},
                "timeout": "5s",
                **model,
            }
        ],
        "upstream": {"mode": "mesh", "endpoints": {"digits": {name: list(copies) for name, copies in COPIES.items()}}},
    }


@contextlib.contextmanager
def meshed(scratch: Path, config: dict[str, Any], issuer: Issuer) -> Iterator[Mesh]:
    """The mesh of a configuration, as `headrace mesh render` and `mesh up` make it."""
    (scratch / "jwks.json").write_bytes(issuer.jwks())
    path = scratch / "headrace.yaml"
    path.write_text(json.dumps(config))
    resources = scratch / "istio"
    folder.apply(resources, folder.changes(render(source_of(load(path, {})), {}), {}))
    with running(resources) as mesh:
        yield mesh


@dataclass
class World:
    """The gateway's channel for callers, and the mesh behind it."""

    mesh: Mesh
    issuer: Issuer
    channel: grpc.aio.Channel
    folder: Path
    address: str

    def resource(self, name: str) -> str:
        """A file of resources as it was rendered."""
        return (self.folder / "istio" / name).read_text()

    @property
    def metadata(self) -> Metadata:
        return [("authorization", f"Bearer {self.issuer.token()}")]

    async def infer(self, version: str = "", *, sequence: int = 0, more: Metadata = []) -> pb.ModelInferResponse:  # noqa: B006 - never changed
        message = infer_request(version, sequence)
        call = self.channel.unary_unary(INFER)(message, metadata=[*self.metadata, *more], timeout=10)
        return pb.ModelInferResponse.FromString(await call)

    def stream(self) -> grpc.aio.StreamStreamCall:
        return self.channel.stream_stream(STREAM)(metadata=self.metadata, timeout=10)

    def requests(self, *versions: str) -> list[dict[str, str | bytes]]:
        """The headers of every call that reached workers of these versions."""
        workers = [
            worker for worker in self.mesh.workers.values() if worker.labels["version"].removeprefix("v") in versions
        ]
        return [dict(request.headers) for worker in workers for request in worker.requests]


def infer_request(version: str = "", sequence: int = 0) -> bytes:
    request = pb.ModelInferRequest(model_name="digits", model_version=version, id="7")
    if sequence:
        request.parameters["sequence_id"].int64_param = sequence
    return request.SerializeToString()


@contextlib.asynccontextmanager
async def behind_a_mesh(scratch: Path, *, express: bool = False, **model: Any) -> AsyncIterator[World]:
    """The gateway in mode mesh, its model as `model` says; with `express`, behind an Envoy of its own."""
    issuer = Issuer()
    config = configuration(issuer, **model)
    with meshed(scratch, config, issuer) as mesh:
        config["upstream"]["proxy"] = mesh.sidecars["gateway"].outbound
        (scratch / "headrace.yaml").write_text(json.dumps(config))
        settings = load(scratch / "headrace.yaml", {})
        made = front(settings, scratch, Path(ENVOY or "")) if express else None
        async with (
            serving(settings, environ={}, front=made) as addresses,
            grpc.aio.insecure_channel(addresses.grpc, options=CLIENT) as channel,
        ):
            yield World(mesh, issuer, channel, scratch, addresses.grpc)
