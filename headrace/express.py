"""The express lane beside the gateway. Law: what both lanes say and do is the gateway's word, put into the lane's here.

`mesh.express` does not know of the gateway, nor the gateway of Envoy; they are put together in this module.
"""

from __future__ import annotations

import contextlib
import socket
import time
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Final

from gateway import answer, audited, headers, lane
from gateway.access_log import appending
from gateway.audit import Audit
from gateway.errors import StartError
from gateway.exchange import LEEWAY
from gateway.limits import LEASE
from gateway.rpcs import RPCS
from gateway.settings import Settings
from headrace.counting import Counting
from headrace.door import opened
from headrace.express_clusters import cluster_of, clusters
from headrace.late import kept_late
from headrace.listening import tried
from headrace.relayed import relayed
from headrace.siblings import Siblings
from mesh.envoy.admin import Admin
from mesh.express.access_log import AccessLog
from mesh.express.audited import Audit as AuditLines
from mesh.express.counted import Counts
from mesh.express.front import Front, Tls
from mesh.express.late import Late
from mesh.express.lines import Lines, Said
from mesh.express.rules import ASKED, PLACEHOLDER, Metadata, Refusal, Rules, Words
from mesh.express.traced import Tracing
from mesh.local.files import CLUSTERS
from protos import tracing
from protos.boundary import DETAILS_KEY, trailers
from protos.contract import EXPRESS_LANE, MODEL_NAME, MODEL_VERSION, PYTHON_LANE
from protos.errors import HeadraceError, unforeseen
from protos.spans import Spans

_CARRIED: Final = {tracing.RPC_METHOD: lane.PATH.removeprefix("/"), tracing.LANE: EXPRESS_LANE}
_MOST: Final = 256  # pieces of lines that wait for the access log's disk
_OF_METADATA: Final = {
    tracing.MODEL: MODEL_NAME,
    tracing.VERSION_ASKED: MODEL_VERSION,
    tracing.REQUEST_ID: tracing.REQUEST_ID_KEY,
    tracing.CALLER: headers.CALLER,
    tracing.GRANT: headers.GRANT,
}

_SPANS: Final = {tracing.RPC_SYSTEM: "grpc", **_CARRIED}
_OF_SPANS: Final = {**_OF_METADATA, tracing.SERVER_ADDRESS: ":authority"}


def front(settings: Settings, folder: Path, binary: Path) -> lane.Front:
    """The Envoy in front of the gateway; its sockets, its files and its log are in the folder."""
    made = front_of(settings, folder)

    @contextlib.asynccontextmanager
    async def door(audit: Audit | None, traces: Spans) -> AsyncIterator[lane.Door]:
        _listen_once(made.address)
        siblings = Siblings(settings, tells=made.counts is not None)
        counting = partial(_counting, settings, made.counts) if made.counts is not None else None
        with taken(settings, made.lines, audit), kept_late(made.late, traces, _SPANS):
            async with (
                siblings.kept(made.python[1:]),
                opened(made, binary, clusters, settings, siblings, counting) as opening,
            ):
                yield opening

    shared = folder if settings.listen.processes > 1 else None
    return lane.Front(made.python[0], made.asked, shared, 0, cluster_of, door)


def front_of(settings: Settings, folder: Path) -> Front:
    """What the Envoy is told."""
    tls = settings.listen.tls
    return Front(
        address=_numeric(settings.listen.address),
        tls=Tls(tls.certificate, tls.key, tls.client_ca) if tls else None,
        python=[folder / f"python-{number}.sock" for number in range(settings.listen.processes)],
        asked=folder / "asked.sock",
        admin=folder / "admin.sock",
        clusters=folder / "watched" / CLUSTERS,
        largest=settings.largest,
        rules=rules(settings),
        tracing=traces(settings),
        traced=folder / "traced.sock",
        lines=[*lines(settings, folder)],
        late=late(settings, folder),
        counts=counts(settings),
    )


def _listen_once(address: str) -> None:
    """Raises StartError: nobody can listen there. Envoy would say so in many words, or share the port with another."""
    try:
        tried(address)
    except OSError as error:
        raise StartError(f"cannot listen on {address}: {error.strerror}") from None


def _numeric(address: str) -> str:
    """Envoy listens at numbers alone. Raises StartError: the name has none."""
    host, _, port = address.rpartition(":")
    try:
        (_, _, _, _, found), *_ = socket.getaddrinfo(host.strip("[]"), None, type=socket.SOCK_STREAM)
    except OSError as error:
        raise StartError(f"cannot listen on {address}: {error.strerror}") from None
    number = str(found[0])
    return f"[{number}]:{port}" if ":" in number else f"{number}:{port}"


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
        lease=int(LEASE * 1000),
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
        too_large=_refusal(answer.too_large(settings.largest), ""),
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
        fixed=_SPANS,
        of_metadata=_OF_SPANS,
        status=tracing.RPC_STATUS,
    )


def lines(settings: Settings, folder: Path) -> Iterator[Lines]:
    """The Python lane's lines, in the lane's own terms; they come to their files by way of us."""
    if settings.telemetry.access_log is not None:
        yield AccessLog(folder / "access_log.pipe", _said(settings))
    if settings.audit is not None:
        decisions = (audited.ALLOWED, audited.REFUSED, audited.UNDECIDED)
        yield AuditLines(folder / "audit.pipe", _said(settings), settings.audit.sample, *decisions)


@contextlib.contextmanager
def taken(settings: Settings, kinds: Sequence[Lines], audit: Audit | None) -> Iterator[None]:
    """While inside, the lines that the Envoy writes are handed to whom they are for."""
    with contextlib.ExitStack() as stack:
        for kind in kinds:
            if isinstance(kind, AuditLines) and audit is not None:
                stack.enter_context(relayed(kind.path, audit.write_carried))
            elif isinstance(kind, AccessLog) and (path := settings.telemetry.access_log) is not None:
                file = stack.enter_context(appending(path, time.monotonic, _MOST, gather=0.0))
                stack.enter_context(relayed(kind.path, file.write))
        yield


def _said(settings: Settings) -> Said:
    return Said(
        fixed=_CARRIED,
        of_metadata=_OF_METADATA,
        reasons=_reasons(),
        python={tracing.LANE: PYTHON_LANE},
        methods={path: rpc.full_name for path, rpc in RPCS.items()},
        slow=_slow(settings) if settings.telemetry.otlp else None,
    )


def counts(settings: Settings) -> Counts | None:
    """What the lane counts, in its own terms; None where nothing is counted."""
    if not settings.telemetry.metrics:
        return None
    return Counts(MODEL_NAME, MODEL_VERSION, headers.GRANT, {path: rpc.full_name for path, rpc in RPCS.items()})


def _counting(settings: Settings, counts: Counts, admin: Admin) -> Counting:
    reasons = {error.status.name: str(error.reason) for error in _refusals()}
    return Counting(admin, settings, counts, _CARRIED[tracing.RPC_METHOD], reasons)


def late(settings: Settings, folder: Path) -> Late | None:
    """What is told of carried calls whose spans Python makes; None without traces."""
    if settings.telemetry.otlp is None:
        return None
    return Late(folder / "late.pipe", _slow(settings), _OF_SPANS, _reasons())


def _slow(settings: Settings) -> int:
    return max(1, int(settings.telemetry.slow * 1000))


def _reasons() -> Mapping[int, str]:
    return {_number(error): str(error.reason) for error in _refusals()}


def _refusals() -> tuple[HeadraceError, ...]:
    """What becomes of a worker's failures."""
    return answer.out_of_time(), answer.overloaded(), answer.not_ready(), unforeseen(PLACEHOLDER, "")


def _refusal(error: HeadraceError, request_id: str = PLACEHOLDER) -> Refusal:
    details = dict(trailers(error, request_id))[DETAILS_KEY]
    return Refusal(_number(error), error.public, details if isinstance(details, bytes) else b"")


def _number(error: HeadraceError) -> int:
    code: int = error.status.value[0]
    return code
