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
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass

import grpc
import grpc.aio
from grpc_health.v1 import health

from gateway import files, gauges, memory
from gateway.admin import application
from gateway.admission import Admission
from gateway.asked import answering
from gateway.counted import Messages
from gateway.direct import Direct
from gateway.errors import StartError
from gateway.following import Changes, followed
from gateway.health import Health
from gateway.in_force import Built, InForce
from gateway.issuers import trusted
from gateway.lane import Door, Front, Generation
from gateway.local import Local
from gateway.numbers import Numbers
from gateway.observability import observability
from gateway.pinned import Pinned
from gateway.proxyless import Proxyless, mistake_in_bootstrap
from gateway.quotas import Quotas
from gateway.readiness import Readiness
from gateway.refusals import Refusals
from gateway.service import Service
from gateway.settings import Listen, Settings, Tls
from gateway.sidecar import Sidecar
from gateway.steps import Steps
from gateway.upstream import Upstream
from gateway.verify import Verifier
from protos import garbage, logs, pages, reflection
from protos.contract import SERVICE
from protos.last_words import LastWords
from protos.metrics.snapshot import Snapshot

log = logging.getLogger("headrace.gateway")

_MAX_METADATA = 32 * 1024  # bytes; a token may have 16 KiB
_MARGIN = 1024 * 1024  # bytes over the largest request in which TOO_LARGE can be told
_MAX_STREAMS = 1000  # calls at a time on one connection
_MAX_CALLS = 10_000  # calls at a time; gRPC refuses more with RESOURCE_EXHAUSTED
_HOLDING = 0.3  # seconds at most in which new calls are held back before connections are closed to them
_CLOSING = 0.05  # seconds in which gRPC has told every connection


@dataclass(frozen=True)
class Addresses:
    """Where the gateway listens, `HOST:PORT`, with the ports that were given where 0 was asked for."""

    grpc: str
    admin: str | None
    asked: str | None


def run(settings: Settings, front: Front | None = None, changes: Changes | None = None) -> int:
    """Serve until SIGTERM or SIGINT; 0 once drained, which a second signal cuts short. Raises StartError."""
    memory.keep_freed()
    garbage.spare()
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
        in_force = InForce(settings)
        door: Door | None = None

        async def elsewhere() -> Sequence[Snapshot]:
            return await door.counted() if door is not None else ()

        seen = await observability(settings, front, lambda: in_force.catalog, elsewhere, stack, last_words)
        audit, registry = seen.audit, seen.registry
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
        admin = await _admin(in_force, readiness, seen.numbers, stack)
        server = grpc.aio.server(options=_options(settings), maximum_concurrent_rpcs=_MAX_CALLS)

        def now() -> Steps:
            return in_force.steps

        service = Service(now, readiness, seen.around)
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
        door = await stack.enter_async_context(front.open(audit, seen.spans)) if front else None
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
