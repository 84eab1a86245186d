"""A proxyless gateway, for tests: a process of its own, a control plane, and workers that demand certificates."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import grpc
import grpc.aio

from mesh.ads.server import Ads, serving
from mesh.ads.stream import Verdict
from mesh.local.authority import Authority, Certificate
from mesh.proxyless.bootstrap import Certificates, bootstrap, node_id
from mesh.proxyless.generate import generate
from protos import grpc_service_pb2 as pb
from tests.gateway.tokens import Issuer
from tests.gateway.world import CLIENT, INFER, Metadata, Worker
from tests.mesh.envoy.istio_vectors import GATEWAY, world_alone

HOST = "digits.models.svc.cluster.local"
ADDRESS = f"{HOST}:8001"
IDENTITY = GATEWAY.spiffe_id("cluster.local")

SERVICE = f"""
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {{name: digits, namespace: models}}
spec:
  hosts: [{HOST}]
  location: MESH_INTERNAL
  resolution: STATIC
  ports: [{{number: 8001, name: grpc, protocol: GRPC}}]
  workloadSelector: {{labels: {{app: digits}}}}
"""
STRICT = """
apiVersion: security.istio.io/v1
kind: PeerAuthentication
metadata: {name: default, namespace: models}
spec: {mtls: {mode: STRICT}}
"""
SUBSETS = f"""
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {{name: digits, namespace: models}}
spec:
  host: {HOST}
  trafficPolicy: {{tls: {{mode: ISTIO_MUTUAL}}}}
  subsets: [{{name: v1, labels: {{version: v1}}}}, {{name: v2, labels: {{version: v2}}}}]
"""


def copy(name: str, version: str, address: str, number: int = 0) -> str:
    """A worker as the mesh knows it."""
    host, _, port = address.rpartition(":")
    return f"""
apiVersion: networking.istio.io/v1
kind: WorkloadEntry
metadata: {{name: {name}, namespace: models}}
spec:
  address: {host}
  ports: {{grpc: {port}}}
  labels: {{app: digits, version: {version}, apps.kubernetes.io/pod-index: "{number}"}}
  serviceAccount: digits
"""


def routes(one: int, two: int, retries: str = "", pins: str = "") -> str:
    """A VirtualService that shares calls by weights. `pins`: the retries of routes by x-model-version, if there are."""
    pinned = "".join(
        f"""
  - match: [{{headers: {{x-model-version: {{exact: "{version}"}}}}}}]
    route: [{{destination: {{host: {HOST}, subset: v{version}}}}}]
    retries: {pins}"""
        for version in ((1, 2) if pins else ())
    )
    return f"""
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {{name: digits, namespace: models}}
spec:
  hosts: [{HOST}]
  http:{pinned}
  - route:
    - {{destination: {{host: {HOST}, subset: v1}}, weight: {one}}}
    - {{destination: {{host: {HOST}, subset: v2}}, weight: {two}}}
{f"    retries: {retries}" if retries else ""}
"""


@dataclass
class Guarded(Worker):
    """A worker that lets in who shows a certificate of the mesh's; `peers`: the identities and certificates it saw."""

    peers: list[tuple[str, bytes]] = field(default_factory=list)

    async def _answer(self, path: str, message: bytes, context: grpc.aio.ServicerContext) -> bytes:
        shown: Mapping[str, Any] = context.auth_context()
        if "peer_spiffe_id" in shown:
            self.peers.append((shown["peer_spiffe_id"][0].decode(), shown["x509_pem_cert"][0]))
        return await super()._answer(path, message, context)


@contextlib.asynccontextmanager
async def guarded(worker: Worker, certificate: Certificate | None, roots: str, **options: int) -> AsyncIterator[Worker]:
    """The worker, served with a certificate to those who show one; None: to anyone, in plain text."""
    server = grpc.aio.server(options=[(f"grpc.{name}", value) for name, value in options.items()])
    server.add_generic_rpc_handlers((worker,))
    if certificate is None:
        port = server.add_insecure_port("127.0.0.1:0")
    else:
        pair = (certificate.key.encode(), certificate.chain.encode())
        demanding = grpc.ssl_server_credentials([pair], roots.encode(), require_client_auth=True)
        port = server.add_secure_port("127.0.0.1:0", demanding)
    worker.address = f"127.0.0.1:{port}"
    await server.start()
    try:
        yield worker
    finally:
        await server.stop(None)


class Identity:
    """A workload's certificate in files, as a mesh keeps it: replaced by rename."""

    def __init__(self, folder: Path, authority: Authority) -> None:
        self.files = Certificates(folder / "cert.pem", folder / "key.pem", folder / "roots.pem", timedelta(seconds=1))
        self._authority = authority
        _replace(self.files.roots, authority.roots)
        self.renew()

    def renew(self) -> None:
        """Another key, and another certificate of the same identity."""
        issued = self._authority.issue(IDENTITY, datetime.now(UTC), timedelta(hours=1))
        _replace(self.files.key, issued.key)
        _replace(self.files.certificate, issued.chain)


def _replace(file: Path, text: str) -> None:
    fresh = file.with_suffix(".new")
    fresh.write_text(text)
    fresh.replace(file)


def authority() -> Authority:
    return Authority("cluster.local", datetime.now(UTC))


def worker_certificate(authority: Authority, account: str = "digits") -> Certificate:
    return authority.issue(f"spiffe://cluster.local/ns/models/sa/{account}", datetime.now(UTC), timedelta(hours=1))


@contextlib.asynccontextmanager
async def control_plane() -> AsyncIterator[tuple[Ads, list[Verdict]]]:
    """A control plane, and what it hears of those it tells."""
    heard: list[Verdict] = []
    async with serving("127.0.0.1:0", heard.append) as ads:
        yield ads, heard


def publish(ads: Ads, *resources: str) -> None:
    """What was compiled for the gateway from these resources."""
    ads.publish(node_id(GATEWAY), generate(world_alone("\n---\n".join(resources)), GATEWAY))


@dataclass
class Gateway:
    """A caller's way to a gateway in a process of its own."""

    channel: grpc.aio.Channel
    issuer: Issuer

    async def call(self, method: str, message: bytes) -> bytes:
        """One call of any method, `SERVICE/NAME`."""
        token: Metadata = [("authorization", f"Bearer {self.issuer.token()}")]
        answer: bytes = await self.channel.unary_unary(f"/{method}")(message, metadata=token, timeout=20)
        return answer

    async def infer(
        self, version: str = "", *, metadata: Metadata | None = None, size: int = 0
    ) -> pb.ModelInferResponse:
        """One call with so many bytes of input, and with a token unless `metadata` is given."""
        token: Metadata = [("authorization", f"Bearer {self.issuer.token()}")] if metadata is None else metadata
        request = pb.ModelInferRequest(model_name="digits", model_version=version, raw_input_contents=[bytes(size)])
        message = request.SerializeToString()
        answer = await self.channel.unary_unary(INFER)(message, metadata=token, timeout=20)
        return pb.ModelInferResponse.FromString(answer)


def settings(folder: Path, issuer: Issuer, **model: Any) -> Path:
    """A configuration in mode xds, for one model of two versions."""
    (folder / "jwks.json").write_bytes(issuer.jwks())
    labels = {"1": {"version": "v1"}, "2": {"version": "v2"}}
    config = {
        "listen": {"address": "127.0.0.1:0", "admin": None, "notice": "1ms"},
        "issuers": [
            {"issuer": issuer.name, "audiences": ["headrace"], "jwks": "file:jwks.json", "algorithms": ["ES256"]}
        ],
        "grants": [{"to": {"issuer": issuer.name}, "models": ["*"], "actions": ["infer", "inspect", "manage"]}],
        "models": [
            {"name": "digits", "host": ADDRESS, "versions": labels, "traffic": {"1": 90, "2": 10}, **model},
        ],
        "upstream": {"mode": "xds"},
    }
    path = folder / "headrace.yaml"
    path.write_text(json.dumps(config))
    return path


@contextlib.asynccontextmanager
async def gateway(folder: Path, server: str, certificates: Certificates | None, **model: Any) -> AsyncIterator[Gateway]:
    """`headrace gateway` in mode xds, by this control plane."""
    issuer = Issuer()
    config = settings(folder, issuer, **model)
    file = folder / "bootstrap.json"
    file.write_text(json.dumps(bootstrap(server, GATEWAY, certificates)))
    async with (
        started(config, {"GRPC_XDS_BOOTSTRAP": str(file)}) as address,
        grpc.aio.insecure_channel(address, options=CLIENT) as channel,
    ):
        yield Gateway(channel, issuer)


@contextlib.asynccontextmanager
async def started(config: Path, environ: Mapping[str, str]) -> AsyncIterator[str]:
    """Where a gateway's process says that it listens; it is killed in the end.

    Told to stop, it would: but then gRPC's xDS client holds the process up for two seconds more.
    """
    child = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "headrace", "gateway", "--config", config,
        stdout=asyncio.subprocess.PIPE, env={**os.environ, "TMPDIR": str(config.parent), **environ},
    )  # fmt: skip
    assert child.stdout is not None
    try:
        line = (await asyncio.wait_for(child.stdout.readline(), 30)).decode()
        assert line.startswith("headrace gateway ready on "), line
        yield line.split()[-1]
    finally:
        with contextlib.suppress(ProcessLookupError):
            child.kill()
        await child.communicate()


async def calls(one: Callable[[], Awaitable[object]], number: int, at_once: int = 16) -> None:
    """So many calls, some at a time; the first that fails is raised."""
    await _by_several(one, iter(range(number)), at_once)


@contextlib.asynccontextmanager
async def load(one: Callable[[], Awaitable[object]], at_once: int = 16) -> AsyncIterator[None]:
    """Calls while inside, some at a time; the first that fails is raised."""
    over = asyncio.Event()
    async with asyncio.TaskGroup() as running:
        running.create_task(_by_several(one, iter(over.is_set, True), at_once))
        yield
        over.set()


async def _by_several(one: Callable[[], Awaitable[object]], turns: Iterator[object], at_once: int) -> None:
    async def caller() -> None:
        for _ in turns:
            await one()

    async with asyncio.TaskGroup() as callers:
        for _ in range(at_once):
            callers.create_task(caller())


async def reaches(worker: Worker, more: int) -> None:
    """Wait until the worker has had so many more calls."""
    wanted = len(worker.infers()) + more
    async with asyncio.timeout(20):
        while len(worker.infers()) < wanted:
            await asyncio.sleep(0.01)
