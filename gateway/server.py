"""The gateway's process. Law: everything is put together here, once, and taken apart in the reverse order."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import logging
import os
import random
import signal
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import grpc
import grpc.aio
from grpc_health.v1 import health

from gateway import audited, files, gauges, logged, memory
from gateway.access_log import Line, appending
from gateway.admin import application
from gateway.admission import Admission
from gateway.asked import answering
from gateway.audit import Audit, auditing
from gateway.counted import Messages, counting
from gateway.direct import Direct
from gateway.ended import Observer
from gateway.exchange import Around
from gateway.following import Changes, followed
from gateway.health import Health
from gateway.in_force import Built, InForce
from gateway.issuers import trusted
from gateway.lane import Door, Front, Generation
from gateway.local import Local
from gateway.numbers import Numbers, pushed, told
from gateway.pinned import Pinned
from gateway.proxyless import Proxyless, mistake_in_bootstrap
from gateway.quotas import Quotas
from gateway.readiness import Readiness
from gateway.refusals import Refusals
from gateway.service import Service, Steps
from gateway.settings import Listen, Settings, Telemetry, Tls
from gateway.sidecar import Sidecar
from gateway.upstream import Upstream
from gateway.verify import Verifier
from protos import logs, pages, reflection, spans
from protos.contract import SERVICE
from protos.last_words import LastWords
from protos.metrics.instruments import Registry
from protos.metrics.snapshot import Snapshot
from protos.spans import Spans

log = logging.getLogger("headrace.gateway")

_MAX_METADATA = 32 * 1024  # bytes; a token may have 16 KiB
_MARGIN = 1024 * 1024  # bytes over the largest request in which TOO_LARGE can be told
_MAX_STREAMS = 1000  # calls at a time on one connection
_MAX_CALLS = 10_000  # calls at a time; gRPC refuses more with RESOURCE_EXHAUSTED
_HOLDING = 0.3  # seconds at most in which new calls are held back before connections are closed to them
_CLOSING = 0.05  # seconds in which gRPC has told every connection


class StartError(Exception):
    """The gateway cannot start; the text is one sentence that says why."""


@dataclass(frozen=True)
class Addresses:
    """Where the gateway listens, `HOST:PORT`, with the ports that were given where 0 was asked for."""

    grpc: str
    admin: str | None
    asked: str | None


def run(settings: Settings, front: Front | None = None, changes: Changes | None = None) -> int:
    """Serve until SIGTERM or SIGINT; 0 once drained, which a second signal cuts short. Raises StartError."""
    memory.keep_freed()
    files.allow_many()
    with logs.written(settings.telemetry.log):
        asyncio.run(_until_stopped(settings, front, changes))
    return 0


async def _until_stopped(settings: Settings, front: Front | None, changes: Changes | None) -> None:
    stop, hurry = asyncio.Event(), asyncio.Event()

    def stop_or_hurry() -> None:
        (hurry if stop.is_set() else stop).set()

    for signum in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(signum, stop_or_hurry)
    async with serving(settings, hurry, os.environ, front, changes) as addresses:
        print(f"headrace gateway ready on {addresses.grpc}", flush=True)  # noqa: T201 - what starters wait for
        if addresses.admin is not None:
            log.info("admin pages on http://%s", addresses.admin)
        await stop.wait()
        log.info("stopping: new calls go elsewhere, running calls have %gs", settings.listen.drain)
    log.info("stopped")


@contextlib.asynccontextmanager
async def serving(
    settings: Settings,
    hurry: asyncio.Event | None = None,
    environ: Mapping[str, str] = os.environ,
    front: Front | None = None,
    changes: Changes | None = None,
    *,
    teaches: bool = True,
) -> AsyncIterator[Addresses]:
    """A gateway that takes calls while inside, and drains on leaving, or until `hurry` is set. Raises StartError.

    `environ` is looked through for what gRPC itself will read there. With a front the public address is its own. With
    changes the settings are those that these have had last; `teaches`: whether the lane may be taught the first ones.
    """
    async with contextlib.AsyncExitStack() as stack:
        last_words = LastWords()
        stack.push_async_callback(last_words.say)
        traces = _spans(settings.telemetry, last_words)
        registry, in_force = Registry(time.time), InForce(settings)
        audit = _audit(settings, stack)
        observers = tuple(_observers(settings, registry, in_force, audit, stack))
        door: Door | None = None

        async def elsewhere() -> Sequence[Snapshot]:
            return await door.counted() if door is not None else ()

        numbers = await _numbers(Numbers(registry, elsewhere), settings.telemetry, front, stack, last_words)
        issuers = await trusted(settings, stack)

        def takes_calls() -> bool:
            return (front is None or (door is not None and door.open)) and any(
                issuer.keys.current.keys for issuer in issuers
            )

        readiness = Readiness(takes_calls, lambda: audit is not None and audit.refuses)
        quotas, pinned = _kept_together(settings, front, stack)

        def rested_on() -> tuple[object, ...] | None:
            keys = (issuer.keys.current.thumbprints for issuer in issuers)
            return (in_force.decided_by, *keys) if readiness.ready else None

        refusals = Refusals(time.monotonic)
        built = Built(
            verifier=Verifier(issuers, time.time),
            admission=Admission(quotas, time.monotonic),
            local=Local(lambda: readiness.ready),
            generation=Generation(rested_on),
            front=front,
            upstream=functools.partial(_upstream, environ=environ),
            refusals=refusals,
            draw=random.random,
            pinned=pinned,
            account=readiness.account,
            messages=Messages(registry),
        )
        in_force.take(settings, built, teaches=teaches)
        stack.push_async_callback(in_force.close)
        admin = await _admin(in_force, readiness, numbers, stack)
        server = grpc.aio.server(options=_options(settings), maximum_concurrent_rpcs=_MAX_CALLS)

        def now() -> Steps:
            return in_force.steps

        of_messages = tuple(_audited(audited.of_messages, settings, audit))
        claims = settings.telemetry.claims
        around = Around(traces, time.monotonic, observers, of_messages, fronted=front is not None, claims=claims)
        service = Service(now, readiness, refusals, around)
        gauges.of_each(registry, lambda: service.running, built.admission, built.verifier, lambda: in_force.catalog)
        if audit is not None:
            gauges.of_audit(registry, audit)
        if front is None or front.place == 0:
            gauges.of_one(registry, settings.listen.tls, issuers, in_force, readiness)
        server.add_generic_rpc_handlers((service, Health(now, readiness, refusals, time.monotonic)))
        reflection.enable(server, SERVICE, health.SERVICE_NAME)
        asked = await _asked(settings.listen, front, built.generation, stack)
        if front is None:
            address = _listen(server, settings.listen)
        else:
            server.add_insecure_port(f"unix:{front.socket}")
        await server.start()
        stack.push_async_callback(server.stop, None)
        door = await stack.enter_async_context(front.open(audit, traces)) if front else None
        try:
            async with followed(changes, in_force, built, door):
                yield Addresses(door.address if door else address, admin, asked)
        finally:
            await _drain(server, door, readiness, settings.listen, hurry or asyncio.Event())


async def _asked(
    listen: Listen, front: Front | None, generation: Generation, stack: contextlib.AsyncExitStack
) -> str | None:
    """Where the Envoy in front asks; None where there is none."""
    if front is None:
        address = listen.asked if listen.express == "external" else None
    else:
        address = f"unix:{front.asked}" if front.asked else None
    if address is None:
        return None
    try:
        port = await stack.enter_async_context(answering(generation, address))
    except RuntimeError:
        raise _taken(address) from None
    return address if front else f"{address.rpartition(':')[0]}:{port}"


async def _drain(
    server: grpc.aio.Server, door: Door | None, readiness: Readiness, listen: Listen, hurry: asyncio.Event
) -> None:
    """Say that we go; then hold new calls back; then close the door, and refuse them.

    Calls that come while gRPC closes it are cancelled, which callers do not try elsewhere; who is held back does not
    call.
    """

    async def in_order() -> None:
        readiness.drain()
        if door is not None:
            door.drain()
        await asyncio.sleep(listen.notice)
        readiness.close()
        await asyncio.sleep(min(listen.notice, _HOLDING))
        until = time.monotonic() + listen.drain
        if door is not None:
            leaving = asyncio.create_task(door.leave(max(listen.drain, _CLOSING)))
            await asyncio.sleep(_CLOSING)
            readiness.leave()
            await leaving
        stopping = asyncio.create_task(server.stop(max(0.0, until - time.monotonic())))
        await asyncio.sleep(_CLOSING)
        readiness.leave()
        await stopping

    draining, hurried = asyncio.create_task(in_order()), asyncio.create_task(hurry.wait())
    await asyncio.wait((draining, hurried), return_when=asyncio.FIRST_COMPLETED)
    if not draining.done():
        log.warning("there is no more time: running calls are ended")
    await server.stop(None)
    for task in (draining, hurried):
        task.cancel()
    await asyncio.gather(draining, hurried, return_exceptions=True)


def _spans(telemetry: Telemetry, last_words: LastWords) -> Spans:
    made = spans.to(telemetry.otlp, telemetry.service, "headrace.gateway", sample=telemetry.sample, slow=telemetry.slow)
    last_words.add(made.close)
    return made


def _audit(settings: Settings, stack: contextlib.AsyncExitStack) -> Audit | None:
    """The audit, where there is to be one."""
    asked = settings.audit
    if asked is None:
        return None
    if settings.listen.express == "external":
        log.warning("calls that the mesh's own Envoy carries are not in the audit: Python does not see them")
    try:
        return stack.enter_context(auditing(asked.file, asked.rotate, asked.keep, refuses=asked.on_failure == "refuse"))
    except OSError as error:
        raise StartError(f"the audit {asked.file} cannot be written: {error.strerror}") from None


def _observers(
    settings: Settings,
    registry: Registry,
    in_force: InForce,
    audit: Audit | None,
    stack: contextlib.AsyncExitStack,
) -> Iterator[Observer]:
    """Who looks at each call that Python has answered."""
    if settings.telemetry.metrics:
        yield counting(registry, lambda: in_force.catalog)
    if (path := settings.telemetry.access_log) is not None:
        try:
            yield logged.to(stack.enter_context(appending(path, time.monotonic)))
        except OSError as error:
            raise StartError(f"the access log {path} cannot be opened: {error.strerror}") from None
    yield from _audited(audited.to, settings, audit)


def _audited(
    to: Callable[[Callable[[Line], None], float], Observer], settings: Settings, audit: Audit | None
) -> Iterator[Observer]:
    if audit is not None and settings.audit is not None:
        yield to(audit.write, settings.audit.sample)


async def _numbers(
    numbers: Numbers,
    telemetry: Telemetry,
    front: Front | None,
    stack: contextlib.AsyncExitStack,
    last_words: LastWords,
) -> Numbers | None:
    """What is counted, and told to whoever is to hear it; None where nothing is counted."""
    if not telemetry.metrics:
        return None
    if front is not None and front.numbers is not None:
        await stack.enter_async_context(told(numbers.registry.snapshot, front.numbers))
    else:
        last_words.add(pushed(numbers, telemetry))
    return numbers


def _kept_together(settings: Settings, front: Front | None, stack: contextlib.AsyncExitStack) -> tuple[Quotas, Pinned]:
    """What callers have had, and the versions of sequences: of all processes behind the door together."""
    shared, place = (front.shared, front.place) if front else (None, 0)
    try:
        quotas = Quotas(shared and shared / "quotas", settings.listen.processes, place, time.monotonic)
        stack.callback(quotas.close)
        pinned = Pinned(shared, time.monotonic)
        stack.callback(pinned.close)
    except OSError as error:
        raise StartError(f"no memory for what callers have had, and for sequences: {error.strerror}") from None
    return quotas, pinned


def _upstream(settings: Settings, environ: Mapping[str, str]) -> Upstream:
    match settings.upstream.mode:
        case "direct":
            return Direct(settings.upstream.endpoints)
        case "mesh":
            return Sidecar(settings.catalog, settings.upstream.proxy, settings.upstream.endpoints)
        case "xds":
            if (mistake := mistake_in_bootstrap(environ)) is not None:
                raise StartError(mistake)
            return Proxyless(settings.catalog, settings.upstream.endpoints)


def _options(settings: Settings) -> list[tuple[str, int]]:
    return [
        # gRPC itself refuses what is over this, without a reason; up to it, we do, with one.
        ("grpc.max_receive_message_length", settings.largest + _MARGIN),
        ("grpc.max_concurrent_streams", _MAX_STREAMS),
        ("grpc.max_send_message_length", -1),
        # Calls that come at once wait for their turn; by itself gRPC cancels some from the thousandth on.
        ("grpc.server.max_pending_requests", _MAX_CALLS),
        ("grpc.server.max_pending_requests_hard_limit", _MAX_CALLS),
        ("grpc.max_metadata_size", _MAX_METADATA),
        ("grpc.absolute_max_metadata_size", 2 * _MAX_METADATA),
        ("grpc.so_reuseport", 0),
        ("grpc.keepalive_permit_without_calls", 1),
        ("grpc.http2.min_ping_interval_without_data_ms", 10_000),
    ]


def _listen(server: grpc.aio.Server, listen: Listen) -> str:
    host = listen.address.rpartition(":")[0]
    try:
        if listen.tls is None:
            port = server.add_insecure_port(listen.address)
        else:
            port = server.add_secure_port(listen.address, _credentials(listen.tls))
    except RuntimeError:
        raise _taken(listen.address) from None
    return f"{host}:{port}"


def _taken(address: str) -> StartError:
    return StartError(f"cannot listen on {address}: another process has the port, or it may not be used")


def _credentials(tls: Tls) -> grpc.ServerCredentials:
    pair = (tls.key.read_bytes(), tls.certificate.read_bytes())
    client_ca = tls.client_ca.read_bytes() if tls.client_ca else None
    return grpc.ssl_server_credentials([pair], client_ca, require_client_auth=client_ca is not None)


async def _admin(
    in_force: InForce, readiness: Readiness, numbers: Numbers | None, stack: contextlib.AsyncExitStack
) -> str | None:
    listen = in_force.settings.listen.admin
    if listen is None:
        return None
    shown = application(lambda: in_force.settings, readiness, numbers.now if numbers else None)
    try:
        return await stack.enter_async_context(pages.served(shown, listen))
    except OSError as error:
        raise StartError(f"cannot listen on {listen} (admin): {error.strerror}") from None
