"""A gateway with workers behind it, for tests: real sockets, real tokens, and workers that do as they are told."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import grpc
import grpc.aio
from google.rpc import error_details_pb2, status_pb2
from grpc_health.v1 import health_pb2

from gateway.following import of_file
from gateway.live import Source
from gateway.server import serving
from gateway.settings import load
from headrace.express import front
from protos import grpc_service_pb2 as pb
from tests.envoy import ENVOY
from tests.gateway.tokens import Issuer

SERVICE = "/inference.GRPCInferenceService/"
INFER = SERVICE + "ModelInfer"
STREAM = SERVICE + "ModelStreamInfer"

Metadata = list[tuple[str, str | bytes]]
T = TypeVar("T")
Behaviour = Callable[[bytes, grpc.aio.ServicerContext], Awaitable[bytes]]
Streaming = Callable[[grpc.aio.ServicerContext], Awaitable[None]]
"""One stream, by its context's `read` and `write`."""


async def echo(message: bytes, _context: grpc.aio.ServicerContext) -> bytes:
    request = pb.ModelInferRequest.FromString(message)
    return pb.ModelInferResponse(
        model_name=request.model_name, model_version=request.model_version, id=request.id
    ).SerializeToString()


def failing(status: grpc.StatusCode, words: str = "", trailers: tuple = ()) -> Behaviour:
    async def fail(_message: bytes, context: grpc.aio.ServicerContext) -> bytes:
        return await context.abort(status, words, trailers)

    return fail


def hanging(reached: asyncio.Event) -> Behaviour:
    """Says that a call has come, and does not answer it."""

    async def hang(_message: bytes, _context: grpc.aio.ServicerContext) -> bytes:
        reached.set()
        await asyncio.sleep(60)
        return b""

    return hang


@dataclass
class Worker(grpc.GenericRpcHandler):
    """Notes the bytes and metadata of every message that reaches it, and answers by `behaviour`."""

    behaviour: dict[str, Behaviour] = field(default_factory=dict)
    calls: list[tuple[str, bytes, dict[str, str | bytes]]] = field(default_factory=list)
    metadata: list[Metadata] = field(default_factory=list)
    remaining: list[float | None] = field(default_factory=list)
    cancelled: asyncio.Event = field(default_factory=asyncio.Event)
    health: int = health_pb2.HealthCheckResponse.SERVING
    address: str = ""
    rehearsing: bool = False  # answers well, and notes nothing
    streaming: Streaming | None = None  # answers streams instead of `behaviour`

    def service(self, details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler:
        if details.method == "/grpc.health.v1.Health/Watch":
            return grpc.unary_stream_rpc_method_handler(self._watch)
        if details.method == "/grpc.health.v1.Health/Check":
            return grpc.unary_unary_rpc_method_handler(self._check)
        if details.method == STREAM:
            return grpc.stream_stream_rpc_method_handler(self._scripted if self.streaming else self._stream)

        async def unary(message: bytes, context: grpc.aio.ServicerContext) -> bytes:
            return await self._answer(details.method, message, context)

        return grpc.unary_unary_rpc_method_handler(unary)

    async def _answer(self, path: str, message: bytes, context: grpc.aio.ServicerContext) -> bytes:
        if self.rehearsing:
            return await echo(message, context)
        self._note(path, message, context)
        try:
            return await self.behaviour.get(path, echo)(message, context)
        except asyncio.CancelledError:
            self.cancelled.set()
            raise

    async def _stream(self, messages: AsyncIterator[bytes], context: grpc.aio.ServicerContext) -> AsyncIterator[bytes]:
        try:
            async for message in messages:
                self._note(STREAM, message, context)
                answer = await self.behaviour.get(STREAM, echo)(message, context)
                yield pb.ModelStreamInferResponse(
                    infer_response=pb.ModelInferResponse.FromString(answer)
                ).SerializeToString()
        except asyncio.CancelledError:
            self.cancelled.set()
            raise

    async def _scripted(self, _messages: object, context: grpc.aio.ServicerContext) -> None:
        assert self.streaming is not None
        try:
            await self.streaming(context)
        except (asyncio.CancelledError, grpc.aio.InternalError):  # the latter where it was about to write
            self.cancelled.set()
            raise

    def _note(self, path: str, message: bytes, context: grpc.aio.ServicerContext) -> None:
        pairs: Metadata = list(context.invocation_metadata())
        self.metadata.append(pairs)
        self.calls.append((path, message, dict(pairs)))
        self.remaining.append(context.time_remaining())

    async def _check(self, _message: bytes, _context: grpc.aio.ServicerContext) -> bytes:
        return health_pb2.HealthCheckResponse(status=self.health).SerializeToString()

    async def _watch(self, _message: bytes, _context: grpc.aio.ServicerContext) -> AsyncIterator[bytes]:
        told = None
        while True:
            if told != self.health:
                told = self.health
                yield health_pb2.HealthCheckResponse(status=told).SerializeToString()
            await asyncio.sleep(0.02)

    def infers(self) -> list[bytes]:
        return [message for path, message, _ in self.calls if path == INFER]


@contextlib.asynccontextmanager
async def running(worker: Worker) -> AsyncIterator[Worker]:
    server = grpc.aio.server(options=[("grpc.max_receive_message_length", -1), ("grpc.max_metadata_size", 65536)])
    server.add_generic_rpc_handlers((worker,))
    worker.address = f"127.0.0.1:{server.add_insecure_port(worker.address or '127.0.0.1:0')}"
    await server.start()
    try:
        yield worker
    finally:
        await server.stop(None)


@dataclass
class World:
    """`digits` 1 and 2 have copies of their own; `shared` has two versions on the first worker; `dead` has nobody."""

    address: str
    admin: str
    issuer: Issuer
    workers: dict[str, Worker]
    channel: grpc.aio.Channel
    folder: Path
    express: bool = False
    tokens: dict[str, str] = field(default_factory=dict)

    @property
    def one(self) -> Worker:
        return self.workers["1"]

    @property
    def two(self) -> Worker:
        return self.workers["2"]

    def configure(self, change: Callable[[dict[str, Any]], None]) -> None:
        """Change the configuration of the gateway that runs."""
        path = self.folder / "headrace.yaml"
        config = json.loads(path.read_text())
        change(config)
        beside = path.with_suffix(".new")
        beside.write_text(json.dumps(config))
        beside.replace(path)

    def bearer(self, **claims: Any) -> tuple[str, str]:
        """A token, the same each time: the express lane carries only what it has seen decided."""
        token = self.tokens.setdefault(str(claims), self.issuer.token(**({"scope": "all"} | claims)))
        return ("authorization", f"Bearer {token}")

    async def call(
        self,
        method: str,
        message: bytes,
        *,
        metadata: Metadata | None = None,
        timeout: float | None = 10.0,
        **claims: Any,
    ) -> bytes:
        """One unary call, with a token unless `metadata` is given; the express lane sees one like it before."""
        sent = [self.bearer(**claims)] if metadata is None else metadata
        if self.express and method == "ModelInfer":
            await self._rehearse(message, sent)
        return await self.channel.unary_unary(SERVICE + method)(message, metadata=sent, timeout=timeout)

    async def _rehearse(self, message: bytes, metadata: Metadata) -> None:
        for worker in self.workers.values():
            worker.rehearsing = True
        with contextlib.suppress(grpc.aio.AioRpcError):
            await self.channel.unary_unary(INFER)(message, metadata=metadata, timeout=10)
        for worker in self.workers.values():
            worker.rehearsing = False

    async def infer(self, model: str = "digits", version: str = "", **kwargs: Any) -> pb.ModelInferResponse:
        message = pb.ModelInferRequest(model_name=model, model_version=version, id="7").SerializeToString()
        return pb.ModelInferResponse.FromString(await self.call("ModelInfer", message, **kwargs))


def configuration(issuer: Issuer, jwks: Path, one: str, two: str, dead: str) -> dict[str, Any]:
    def grant(scope: str, models: list[str], *actions: str) -> dict[str, Any]:
        return {"to": {"issuer": issuer.name, "claims": {"scope": scope}}, "models": models, "actions": list(actions)}

    def model(name: str, versions: dict[str, dict[str, str]], **more: Any) -> dict[str, Any]:
        return {"name": name, "host": f"{name}.models.svc:8001", "versions": versions, **more}

    labels = {"1": {"version": "v1"}, "2": {"version": "v2"}}
    return {
        "listen": {"address": "127.0.0.1:0", "admin": "127.0.0.1:0", "notice": "10ms", "drain": "5s"},
        "issuers": [
            {
                "issuer": issuer.name,
                "audiences": ["headrace"],
                "jwks": f"file:{jwks}",
                "algorithms": [issuer.algorithm],
                "leeway": "1s",
            }
        ],
        "grants": [
            grant("all", ["digits", "shared", "dead", "small", "slow", "token", "ghost*"], "infer", "inspect"),
            grant("manage", ["*"], "infer", "inspect", "manage"),
            grant("manage:digits", ["digits"], "infer", "inspect", "manage"),
            grant("digits", ["digits"], "infer", "inspect"),
        ],
        "models": [
            model("digits", labels, aliases={"stable": "1", "canary": "2"}, traffic={"1": 100, "2": 0}, timeout="5s"),
            model("shared", {"1": {}, "2": {}}, traffic={"1": 0, "2": 100}),
            model("dead", {"1": {"version": "v1"}}, timeout="2s"),
            model("small", {"1": {"version": "v1"}}, max_request="1kB"),
            model("slow", {"1": {"version": "v1"}}, timeout="200ms"),
            model("token", {"1": {"version": "v1"}}, forward_token=True),
            model("secret", {"1": {"version": "v1"}}),
        ],
        "upstream": {
            "mode": "direct",
            "endpoints": {
                "digits": {"1": [one], "2": [two]},
                "shared": {"1": [one], "2": [one]},
                "dead": {"1": [dead]},
                **{name: {"1": [one]} for name in ("small", "slow", "token", "secret")},
            },
        },
        "telemetry": {"sample": 1.0},
    }


def in_front_of(worker: str, folder: Path, issuer: Issuer, *models: str, **sections: Any) -> Path:
    """A configuration by which `issuer`'s callers may do anything with these models of one worker."""
    (folder / "jwks.json").write_bytes(issuer.jwks())
    config = {
        "listen": {"address": "127.0.0.1:0", "admin": None, "notice": "1ms"},
        "issuers": [
            {"issuer": issuer.name, "audiences": ["headrace"], "jwks": "file:jwks.json", "algorithms": ["ES256"]}
        ],
        "grants": [{"to": {"issuer": issuer.name}, "models": ["*"], "actions": ["infer", "inspect", "manage"]}],
        "models": [
            {"name": name, "host": "w.svc:8001", "versions": {"1": {"version": "v1"}}, "aliases": {"stable": "1"}}
            for name in models
        ],
        "upstream": {"endpoints": {name: {"1": worker} for name in models}},
        **sections,
    }
    path = folder / "headrace.yaml"
    path.write_text(json.dumps(config))
    return path


@contextlib.asynccontextmanager
async def world(
    folder: Path,
    change: Callable[[dict[str, Any]], None] = lambda _config: None,
    *,
    express: bool = False,
    drains: bool = False,
) -> AsyncIterator[World]:
    """Two workers, and a gateway in front of them whose configuration `change` may alter.

    At the end it drains, or else it is in a hurry: most tests leave no call behind, and would wait for nothing.
    """
    issuer = Issuer()
    jwks = folder / "jwks.json"
    jwks.write_bytes(issuer.jwks())
    async with contextlib.AsyncExitStack() as stack:
        one = await stack.enter_async_context(running(Worker()))
        two = await stack.enter_async_context(running(Worker()))
        config = configuration(issuer, jwks, one.address, two.address, unused_address())
        change(config)
        path = folder / "headrace.yaml"
        path.write_text(json.dumps(config))
        settings = load(path, {})
        made = front(settings, folder, Path(ENVOY or "")) if express else None
        hurry = asyncio.Event()
        running_gateway = serving(settings, hurry, environ={}, front=made, changes=of_file(Source(path, {})))
        addresses = await stack.enter_async_context(running_gateway)
        channel = await stack.enter_async_context(grpc.aio.insecure_channel(addresses.grpc, options=CLIENT))
        yield World(addresses.grpc, addresses.admin or "", issuer, {"1": one, "2": two}, channel, folder, express)
        if not drains:
            hurry.set()


CLIENT = [
    ("grpc.use_local_subchannel_pool", 1),
    ("grpc.max_receive_message_length", -1),
    ("grpc.initial_reconnect_backoff_ms", 50),
    ("grpc.max_reconnect_backoff_ms", 500),
]


def unused_address() -> str:
    """An address at which nobody listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{probe.getsockname()[1]}"


@contextlib.contextmanager
def nobody_at(count: int) -> Iterator[tuple[str, ...]]:
    """So many different addresses at which nobody listens, nor can: they are taken, without a listener."""
    with contextlib.ExitStack() as held:
        probes = [held.enter_context(socket.socket()) for _ in range(count)]
        for probe in probes:
            probe.bind(("127.0.0.1", 0))
        yield tuple(f"127.0.0.1:{probe.getsockname()[1]}" for probe in probes)


@contextlib.contextmanager
def world_in_thread(folder: Path, *, express: bool = False) -> Iterator[World]:
    """The same for tests that are not coroutines."""
    with in_thread(lambda: world(folder, express=express)) as made:
        yield made


@contextlib.contextmanager
def in_thread(open_it: Callable[[], contextlib.AbstractAsyncContextManager[T]]) -> Iterator[T]:
    """What is opened in a thread with a loop of its own, while inside."""
    ready, over = threading.Event(), asyncio.Event()
    kept: list[tuple[T, asyncio.AbstractEventLoop]] = []

    async def main() -> None:
        async with open_it() as made:
            kept.append((made, asyncio.get_running_loop()))
            ready.set()
            await over.wait()

    thread = threading.Thread(target=lambda: asyncio.run(main()))
    thread.start()
    try:
        assert ready.wait(30)
        yield kept[0][0]
    finally:
        if kept:
            kept[0][1].call_soon_threadsafe(over.set)
        thread.join(30)


@dataclass(frozen=True)
class Refusal:
    status: grpc.StatusCode
    reason: str | None
    domain: str | None
    retry_after: float | None
    text: str
    everything: str


def refusal(error: grpc.RpcError) -> Refusal:
    """What a caller can read of an error; `everything` is all of it, for looking for what must not be there."""
    reason = domain = retry_after = None
    trailers = list(error.trailing_metadata() or ())
    for key, value in trailers:
        if key == "grpc-status-details-bin":
            for detail in status_pb2.Status.FromString(value).details:
                info, retry = error_details_pb2.ErrorInfo(), error_details_pb2.RetryInfo()
                if detail.Unpack(info):
                    reason, domain = info.reason, info.domain
                elif detail.Unpack(retry):
                    retry_after = retry.retry_delay.ToNanoseconds() / 1e9
    return Refusal(error.code(), reason, domain, retry_after, error.details() or "", f"{error.details()} {trailers}")
