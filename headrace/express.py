"""The express lane beside the gateway. Law: what both lanes say and do is the gateway's word, put into the lane's here.

`mesh.express` does not know of the gateway, nor the gateway of Envoy; they are put together in this module.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import socket
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import aiohttp

from gateway import answer, headers, lane
from gateway.exchange import LEEWAY
from gateway.server import StartError
from gateway.settings import Settings
from mesh.catalog import Model
from mesh.envoy.admin import Admin, UnreachableError
from mesh.express.front import LISTENER, Front, Tls, bootstrap
from mesh.express.rules import ASKED, PLACEHOLDER, Metadata, Refusal, Rules, Words
from mesh.express.traced import Tracing
from mesh.local import process
from protos import tracing
from protos.boundary import DETAILS_KEY, trailers
from protos.contract import MODEL_NAME, MODEL_VERSION
from protos.errors import HeadraceError, unforeseen

log = logging.getLogger("headrace.gateway.express")

_UP: Final = 30.0  # seconds that an Envoy has to come up
_LOOK: Final = 0.02  # seconds between looks
_AGAIN: Final = 0.5  # seconds after which one that died is replaced
_LONG: Final = 1024 * 1024  # bytes of an Envoy's log
_SIDECAR: Final = "sidecar"
_RUNNING: Final = "http.front.downstream_rq_active"


def front(settings: Settings, folder: Path, binary: Path) -> lane.Front:
    """The Envoy in front of the gateway; its sockets and its log are in the folder."""
    made = front_of(settings, folder)
    return lane.Front(
        made.python, lambda model, version: cluster_of(settings, model, version), lambda: _open(made, binary)
    )


def front_of(settings: Settings, folder: Path) -> Front:
    """What the Envoy is told."""
    tls = settings.listen.tls
    return Front(
        address=_numeric(settings.listen.address),
        tls=Tls(tls.certificate, tls.key, tls.client_ca) if tls else None,
        python=folder / "python.sock",
        admin=folder / "admin.sock",
        clusters=clusters(settings),
        checked=settings.upstream.mode == "direct",
        largest=max(model.max_request for model in settings.models),
        rules=rules(settings),
        tracing=traces(settings),
        traced=folder / "traced.sock",
    )


def _numeric(address: str) -> str:
    """Envoy listens at numbers alone. Raises StartError: the name has none."""
    host, _, port = address.rpartition(":")
    try:
        (_, _, _, _, found), *_ = socket.getaddrinfo(host.strip("[]"), None, type=socket.SOCK_STREAM)
    except OSError as error:
        raise StartError(f"cannot listen on {address}: {error.strerror}") from None
    number = str(found[0])
    return f"[{number}]:{port}" if ":" in number else f"{number}:{port}"


def clusters(settings: Settings) -> Mapping[str, Sequence[str]]:
    """Name -> addresses, of every cluster that `cluster_of` names."""
    upstream = settings.upstream
    if upstream.mode == "direct":
        sets = (copies for versions in upstream.endpoints.values() for copies in versions.values())
        return {_name(copies): copies for copies in sets}
    if upstream.proxy is not None:
        return {_SIDECAR: [upstream.proxy]}
    return {model.host: [model.host] for model in settings.models}


def cluster_of(settings: Settings, model: Model, version: str) -> str:
    """Where calls for the version go."""
    upstream = settings.upstream
    if upstream.mode == "direct":
        return _name(upstream.endpoints[model.name][version])
    return model.host if upstream.proxy is None else _SIDECAR


def _name(copies: Sequence[str]) -> str:
    return ",".join(copies)


def rules(settings: Settings) -> Rules:
    """The Python lane's words and bounds, in the lane's own terms."""
    sent = settings.telemetry.otlp is not None
    return Rules(
        asked=ASKED,
        path=lane.PATH,
        ask_path=lane.ASK_PATH,
        sample=settings.telemetry.sample if sent else 0.0,
        tracing="lane" if traces(settings) else "python" if sent else "",
        leeway=int(LEEWAY * 1000),
        metadata=Metadata(
            dropped=sorted(headers.OURS | headers.HOP),
            prefixes=[prefix for prefix in headers.HOP_PREFIXES if prefix != ":"],
            entries=headers.MOST,
            bytes=headers.LARGEST,
            each=headers.EACH,
        ),
        words=Words(answer.OUT_OF_TIME, answer.FULL, answer.DENIED, answer.OF_TOKENS, answer.LONGEST),
        deadline=_refusal(answer.out_of_time()),
        overloaded=_refusal(answer.overloaded()),
        not_ready=_refusal(answer.not_ready()),
        internal=_refusal(unforeseen(PLACEHOLDER, "")),
    )


def traces(settings: Settings) -> Tracing | None:
    """The Python lane's spans, in the lane's own terms; None where it has to send them itself, with TLS."""
    scheme, _, collector = (settings.telemetry.otlp or "").partition("://")
    if scheme != "http":
        return None
    return Tracing(
        collector=collector.rstrip("/"),
        service=settings.telemetry.service,
        operation=lane.PATH.removeprefix("/"),
        fixed={
            tracing.RPC_SYSTEM: "grpc",
            tracing.RPC_METHOD: lane.PATH.removeprefix("/"),
            tracing.LANE: "express",
        },
        of_metadata={
            tracing.MODEL: MODEL_NAME,
            tracing.VERSION_ASKED: MODEL_VERSION,
            tracing.REQUEST_ID: tracing.REQUEST_ID_KEY,
            tracing.CALLER: headers.CALLER,
            tracing.SERVER_ADDRESS: ":authority",
        },
        status=tracing.RPC_STATUS,
    )


def _refusal(error: HeadraceError) -> Refusal:
    details = dict(trailers(error, PLACEHOLDER))[DETAILS_KEY]
    code: int = error.status.value[0]
    return Refusal(code, error.public, details if isinstance(details, bytes) else b"")


@dataclass
class _Door:
    """The door, by the Envoy's admin pages."""

    address: str
    session: aiohttp.ClientSession
    admin: Admin

    async def leave(self, patience: float) -> None:
        """Close it to new connections, have callers leave theirs, and wait for what runs."""
        with contextlib.suppress(TimeoutError, UnreachableError, aiohttp.ClientError):
            async with asyncio.timeout(patience):
                url = f"http://{self.admin.address}/drain_listeners?graceful&skip_exit"
                async with self.session.post(url):
                    pass
                while await self._runs():  # noqa: ASYNC110 - another process's calls
                    await asyncio.sleep(_LOOK)

    async def _runs(self) -> bool:
        return any(count != "0" for count in (await self.admin.statistics([_RUNNING])).values())


@contextlib.asynccontextmanager
async def _open(made: Front, binary: Path) -> AsyncIterator[_Door]:
    """The door while inside; an Envoy that dies is replaced. Raises StartError."""
    connector = aiohttp.UnixConnector(str(made.admin))
    async with aiohttp.ClientSession(connector=connector) as session:
        admin = Admin(session, "front")
        envoy = await _started(made, binary)
        try:
            address = await _up(envoy, admin)
        except BaseException:
            await envoy.stop()
            raise
        keeping = asyncio.create_task(_kept(replace(made, address=address), binary, envoy))
        try:
            yield _Door(address, session, admin)
        finally:
            keeping.cancel()
            await asyncio.gather(keeping, return_exceptions=True)


async def _started(made: Front, binary: Path) -> process.Envoy:
    made.admin.unlink(missing_ok=True)
    return await process.start(binary, bootstrap(made), made.admin.with_name("envoy.log"), os.cpu_count() or 1)


async def _up(envoy: process.Envoy, admin: Admin) -> str:
    """The public address, once calls are taken there."""
    ended = asyncio.create_task(envoy.ended())
    try:
        async with asyncio.timeout(_UP):
            while not ended.done():
                with contextlib.suppress(UnreachableError):
                    if (await admin.get("ready")).strip() == "LIVE":
                        return _address(await admin.get("listeners", format="json"))
                await asyncio.sleep(_LOOK)
        raise StartError(f"the Envoy in front {ended.result()}")
    except TimeoutError:
        raise StartError(f"the Envoy in front was not up within {_UP:g} s") from None
    finally:
        ended.cancel()


def _address(listeners: str) -> str:
    statuses = json.loads(listeners)["listener_statuses"]
    listener = next(status for status in statuses if status["name"] == LISTENER)
    at = listener["local_address"]["socket_address"]
    host = f"[{at['address']}]" if ":" in at["address"] else at["address"]
    return f"{host}:{at['port_value']}"


async def _kept(made: Front, binary: Path, envoy: process.Envoy) -> None:
    """Hand on what the Envoy says, and start another if it ends, until cancelled; then end it."""
    try:
        while True:
            telling = asyncio.create_task(_told(envoy.log))
            try:
                how = await envoy.ended()
            finally:
                telling.cancel()
            log.error("the Envoy in front %s; starting another", how)
            envoy = await _another(made, binary)
    finally:
        await envoy.stop()


async def _another(made: Front, binary: Path) -> process.Envoy:
    while True:
        await asyncio.sleep(_AGAIN)
        try:
            return await _started(made, binary)
        except OSError as error:
            log.warning("the Envoy in front cannot be started: %s; it is tried again", error)


async def _told(said: Path) -> None:
    """What an Envoy says, said in our log; its own is made short again."""
    with said.open(errors="replace") as file:
        while True:
            for line in file:
                log.warning("%s", line.rstrip())
                await asyncio.sleep(0)
            if file.tell() > _LONG:
                os.truncate(said, 0)
                file.seek(0)
            await asyncio.sleep(_AGAIN)
