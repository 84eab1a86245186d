"""The worker process, put together. Law: nothing else composes; what is made here is ended here."""

from __future__ import annotations

import asyncio
import logging
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

import grpc
import grpc.aio

from protos import dropped, garbage, pages, reflection, spans
from protos import grpc_service_pb2 as pb
from protos.complaints import Complaints
from protos.dropped import Signal
from protos.errors import HeadraceError
from protos.last_words import LastWords
from protos.log_settings import Form, Logs
from protos.metrics.instruments import Registry
from protos.metrics.otlp import sent
from protos.spans import Spans
from workers import stopping
from workers.calls import Records, Streaming, Unary
from workers.errors import LoadError, StartError
from workers.gpu import Watch
from workers.health import SERVICE as HEALTH
from workers.health import Health
from workers.metrics import Metrics, executions
from workers.models import Models
from workers.service import Service
from workers.watch import LONG, watch

_SERVICE: Final = pb.DESCRIPTOR.services_by_name["GRPCInferenceService"]
SERVICE: Final = _SERVICE.full_name
log: Final = logging.getLogger("headrace.worker")
_MAX_METADATA: Final = 32 * 1024  # bytes, as the gateway takes them
_OPTIONS: Final = (
    ("grpc.max_receive_message_length", -1),  # the gateway bounds messages, by what their model allows
    ("grpc.max_send_message_length", -1),
    # Calls that come at once wait for their turn; by itself gRPC cancels some from the thousandth on.
    ("grpc.server.max_pending_requests", 10_000),
    ("grpc.server.max_pending_requests_hard_limit", 10_000),
    ("grpc.max_metadata_size", _MAX_METADATA),
    ("grpc.absolute_max_metadata_size", 2 * _MAX_METADATA),
    # The gateway asks from time to time whether its connections still live; by default that is misbehaviour.
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.min_ping_interval_without_data_ms", 10_000),
    ("grpc.so_reuseport", 0),  # a port that is taken is an error, not a share
)


@dataclass(frozen=True)
class Options:
    """What a worker is told.

    `models` are the names to load, None for all of the repository; `queue` the most requests that wait for a model
    whose configuration sets no max_queue_size; `otlp` where spans and metrics go (`http://HOST:PORT`), None for
    nowhere, and, with `logs`, log lines; `slow`: seconds from which a call's span is kept whatever its caller has
    drawn; `log_format` how lines look on standard error; `drain` how many seconds
    running calls have to finish; `metrics` where they are served over HTTP.
    """

    repository: Path
    listen: str = "127.0.0.1:8001"
    otlp: str | None = None
    service: str = "headrace-worker"
    slow: float = 1.0
    drain: float = 30.0
    models: tuple[str, ...] | None = None
    queue: int = 1024
    logs: bool = True
    log_format: Form = "auto"
    metrics: str | None = None


def run(options: Options) -> int:
    """Serve until SIGTERM or SIGINT; 0 once drained, or when told before it served. Raises StartError.

    A second signal ends the drain, and the calls that still run: 1.
    """
    garbage.spare()
    return stopping.run(
        partial(_serve, options),
        log,
        Logs(options.service, options.log_format, options.otlp if options.logs else None),
    )


async def _serve(options: Options, ready: asyncio.Event, told: asyncio.Event) -> int:
    async with serving(options) as address:
        ready.set()
        sys.stdout.write(f"headrace worker ready on {address}\n")
        sys.stdout.flush()
        await told.wait()
        log.info("draining: running calls have %g seconds", options.drain)
    return 0


@asynccontextmanager
async def serving(options: Options, traces: Spans | None = None, long: float = LONG) -> AsyncIterator[str]:
    """A worker that serves while the block runs, and drains at its end; the value is its HOST:PORT.

    `traces` stand in for those that `options.otlp` makes; of executions that take more than `long` seconds the log
    speaks. Raises StartError. Cancelled, it waits neither for models nor for calls.
    """
    last_words = LastWords()
    traces = traces or spans.to(options.otlp, options.service, "headrace.worker", slow=options.slow)
    last_words.add(traces.close)
    health = Health(SERVICE)
    complaints = Complaints(log, time.monotonic)
    registry = Registry(time.time)
    models = Models(options.repository, options.queue, health.model, executions(registry))
    gpus = Watch()
    metrics = Metrics(registry, models, lambda: not health.draining, gpus.now)
    watching = asyncio.create_task(watch(models.serving, complaints, long))
    try:
        async with _told(options, metrics, gpus, health, last_words):
            await _load(models, options)
            service = Service(models, version("headrace"), partial(_providers, models), lambda: not health.draining)
            server = _server(service, health, Records(traces, complaints, metrics))
            address = _bind(server, options.listen)
            await server.start()
            health.open()
            try:
                yield address
            finally:
                health.drain()
                try:
                    await server.stop(options.drain)
                finally:
                    await server.stop(None)  # cancelled: the calls that run end now
    finally:
        watching.cancel()
        await models.close()
        await last_words.say()


@asynccontextmanager
async def _told(
    options: Options, metrics: Metrics, gpus: Watch, health: Health, last_words: LastWords
) -> AsyncIterator[None]:
    """Metrics are served, and sent, as the options say, while inside. Raises StartError."""
    async with AsyncExitStack() as stack:
        if options.metrics or options.otlp:
            stack.enter_context(gpus.asking())
        if options.otlp:
            sending = ExitStack()
            lost = partial(dropped.add, Signal.METRICS)
            sending.enter_context(sent(options.otlp, options.service, metrics.snapshot, lost))
            last_words.add(sending.close)
        if options.metrics:
            numbers = partial(asyncio.to_thread, metrics.snapshot)  # a hundred models have much to tell
            shown = pages.application(lambda: "" if health.serves("") else "it stops", numbers)
            try:
                address = await stack.enter_async_context(pages.served(shown, options.metrics))
            except OSError as error:
                raise StartError(f"cannot listen on {options.metrics} (metrics): {error.strerror}") from None
            log.info("metrics on http://%s/metrics", address)
        yield


async def _load(models: Models, options: Options) -> None:
    try:
        for name in await models.names() if options.models is None else options.models:
            log.info("loading model %s", name)
            await models.load(name)
            log.info("model %s is loaded", name)
    except OSError as error:  # of the folder itself: a model's are LoadErrors
        what = f"there is no folder {options.repository} that can be read ({error.strerror})"
        raise StartError(f"{what}: give the model repository's") from None
    except LoadError as error:
        raise StartError(f"{error} (in {options.repository})") from None
    except HeadraceError as error:
        raise StartError(f"{error.public}: {options.repository} has no such folder") from None


def _server(service: Service, health: Health, records: Records) -> grpc.aio.Server:
    server = grpc.aio.server(options=_OPTIONS)
    handlers = _handlers(service, records)
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, handlers), health.handler()))
    reflection.enable(server, SERVICE, HEALTH)
    return server


def _handlers(service: Service, records: Records) -> dict[str, grpc.RpcMethodHandler[Any, Any]]:
    """A handler for each RPC of the contract."""
    answers: dict[str, Callable[..., Any]] = {
        "ServerLive": service.server_live,
        "ServerReady": service.server_ready,
        "ServerMetadata": service.server_metadata,
        "ModelReady": service.model_ready,
        "ModelMetadata": service.model_metadata,
        "ModelConfig": service.model_config,
        "ModelStatistics": service.model_statistics,
        "ModelInfer": service.model_infer,
        "ModelStreamInfer": service.model_stream_infer,
        "RepositoryIndex": service.repository_index,
        "RepositoryModelLoad": service.repository_model_load,
        "RepositoryModelUnload": service.repository_model_unload,
        "TraceSetting": service.trace_setting,
        "LogSettings": service.log_settings,
        **{method.name: service.shared_memory for method in _SERVICE.methods if "SharedMemory" in method.name},
    }
    handlers: dict[str, grpc.RpcMethodHandler[Any, Any]] = {}
    for method in _SERVICE.methods:
        request = getattr(pb, method.input_type.name)
        kind = Streaming if method.client_streaming else Unary
        handlers[method.name] = kind(f"{SERVICE}/{method.name}", request, answers[method.name], records).handler()
    return handlers


def _bind(server: grpc.aio.Server, listen: str) -> str:
    host, _, _ = listen.rpartition(":")
    try:
        port = server.add_insecure_port(listen)
    except RuntimeError:
        port = 0
    if not port:
        raise StartError(f"cannot listen on {listen}: the port is taken or the address is not this machine's")
    return f"{host}:{port}"


def _providers(models: Models) -> list[str]:
    return sorted({one.provider for one in models.serving()})
