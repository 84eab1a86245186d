"""The Envoy at the public address, as its bootstrap says. Law: what is not carried by the script is Python's.

What the lane and Python say to each other in headers, no caller can say (`parts`), nor read.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from mesh.envoy.proto import (
    DOWNSTREAM_TLS_CONTEXT,
    HTTP_CONNECTION_MANAGER,
    TLS_TRANSPORT_SOCKET,
    Json,
    named,
    percent,
    typed,
)
from mesh.envoy.reading import part
from mesh.express import counted, late
from mesh.express.clusters import HEALTH, at, cluster, copies, pipe
from mesh.express.lines import CARRIED, Lines, filters, peer_told
from mesh.express.parts import CLUSTER_KEY, EXPRESS, IDLE, LANE_KEY, carried, held, lua, manager, router
from mesh.express.rules import ASKED, PYTHON, Rules
from mesh.express.traced import COLLECTOR, TRACED, Tracing
from mesh.express.traced import listener as traced_listener
from mesh.local.files import source

_CONNECTIONS: Final = "envoy.resource_monitors.global_downstream_max_connections"
_MONITOR: Final = "envoy.extensions.resource_monitors.downstream_connections.v3.DownstreamConnectionsConfig"
LISTENER: Final = "front"
"""The listener at the public address."""
_MOST_CONNECTIONS: Final = 50_000
_OTHERS: Final = "envoy.extensions.retry.host.previous_hosts.v3.PreviousHostsPredicate"
# A process that is busy answers late; the first serves when the door is open, which it asks before.
_ALIVE: Final[Json] = HEALTH | {
    "timeout": "2s",
    "unhealthy_threshold": 2,
    "unhealthy_interval": "0.1s",
    "no_traffic_interval": "0.1s",
    "no_traffic_healthy_interval": "1s",
}
# As the Python lane's own leave; by itself Envoy sends five together, each with a call of its own.
_RUNTIME: Final[Json] = {"tracing.opentelemetry.flush_interval_ms": 500, "tracing.opentelemetry.min_flush_spans": 512}
# What a collector that hangs may hold; more is let go (cluster.collector.upstream_rq_pending_overflow).
_SENDING: Final[Json] = {"max_connections": 1, "max_pending_requests": 8, "max_requests": 8, "max_retries": 0}


@dataclass(frozen=True)
class Tls:
    """PEM files of the public address; with `client_ca`, callers must show a certificate that it signed."""

    certificate: Path
    key: Path
    client_ca: Path | None


@dataclass(frozen=True)
class Front:
    """One Envoy: where it listens, and sockets: of Python's processes, of the first for questions, and its own.

    `clusters`: the file that says where calls may go (`mesh.local.files`). `largest`: bytes of a request. Without
    `tracing` no call is traced here, without `lines` none leaves one, without `late` none that is for traces, without
    `counts` none is counted.
    """

    address: str
    tls: Tls | None
    python: Sequence[Path]
    asked: Path
    admin: Path
    clusters: Path
    largest: int
    rules: Rules
    tracing: Tracing | None
    traced: Path
    lines: Sequence[Lines]
    late: late.Late | None
    counts: counted.Counts | None


def bootstrap(front: Front) -> Json:
    """envoy.config.bootstrap.v3.Bootstrap."""
    connections = named(_CONNECTIONS, _MONITOR, max_active_downstream_connections=_MOST_CONNECTIONS)
    listeners = [_listener(front)]
    clusters = [_python(front.python), cluster(ASKED, [pipe(front.asked)])]
    if front.tracing is not None:
        listeners.append(traced_listener(front.tracing, front.traced, tells=bool(front.lines)))
        collector = copies(COLLECTOR, [front.tracing.collector]) | {"circuit_breakers": {"thresholds": [_SENDING]}}
        clusters += [cluster(TRACED, [pipe(front.traced)]), collector]
    return {
        "node": {"id": "headrace-gateway", "cluster": "headrace-gateway"},
        "admin": {"address": pipe(front.admin)},
        "dynamic_resources": {"cds_config": source(front.clusters)},
        "static_resources": {"listeners": listeners, "clusters": clusters},
        "layered_runtime": {"layers": [{"name": "fixed", "static_layer": _RUNTIME}]},
        "overload_manager": {"resource_monitors": [connections]},
        **(counted.STATISTICS if front.counts is not None else {}),
    }


def _python(sockets: Sequence[Path]) -> Json:
    """The gateway's processes. Of several, those get calls that serve, or all where none does, so that it is told."""
    made = cluster(PYTHON, [pipe(socket) for socket in sockets])
    if len(sockets) == 1:
        return made
    none = {"healthy_panic_threshold": percent(1)}
    return made | {"lb_policy": "LEAST_REQUEST", "health_checks": [_ALIVE], "common_lb_config": none}


def _again(sockets: Sequence[Path]) -> Json:
    """Fields of a route to them: a call that one has not seen goes to another."""
    if len(sockets) == 1:
        return {}
    others: Json = {"retry_host_predicate": [named("others", _OTHERS)], "host_selection_retry_max_attempts": 20}
    return {"retry_policy": {"retry_on": "connect-failure,refused-stream", "num_retries": len(sockets) - 1, **others}}


def _listener(front: Front) -> Json:
    chain: Json = {"filters": [{"name": "http", "typed_config": _http(front)}]}
    if front.tls is not None:
        chain["transport_socket"] = {"name": TLS_TRANSPORT_SOCKET, "typed_config": _tls(front.tls)}
    address = at(front.address)
    return {
        "name": LISTENER,
        "address": {"socket_address": {**part(address, "socket_address"), "ipv4_compat": "[::]" in front.address}},
        "filter_chains": [chain],
    }


def _http(front: Front) -> Json:
    return typed(
        HTTP_CONNECTION_MANAGER,
        stat_prefix="front",
        **manager(),
        route_config={"name": "front", "virtual_hosts": [_host(front)]},
        http_filters=[*late.filters(front.late), *filters(front.lines, lua(front.rules)), router()],
        access_log=[
            *(logger for kind in front.lines for logger in kind.loggers()),
            *late.loggers(front.late),
            *counted.loggers(front.counts),
        ]
        or None,
    )


def _host(front: Front) -> Json:
    # Workers are told which attempt a call is.
    return {"name": "all", "domains": ["*"], "routes": _routes(front), "include_request_attempt_count": True}


def _routes(front: Front) -> list[Json]:
    """Of the calls that the script carries; of those that it has not decided yet; and of all others."""
    bounded = {"max_stream_duration": {"grpc_timeout_header_max": "0s"}}
    to_copies = {"cluster_header": CLUSTER_KEY, "timeout": "0s", "idle_timeout": "0s", **bounded}
    python: Json = {"cluster": PYTHON, "timeout": "0s", "idle_timeout": "0s", **_again(front.python)}
    told, most = peer_told(front.lines), held(front.largest)
    undecided = python | {"idle_timeout": IDLE}
    return [
        {"match": {"prefix": "/", "headers": [_by(EXPRESS)]}, "name": CARRIED, **carried(), "route": to_copies},
        told | {"match": {"path": front.rules.path, "headers": [_by(PYTHON)]}, "route": python},
        told | {"match": {"path": front.rules.path}, "request_body_buffer_limit": most, "route": undecided},
        told | {"match": {"prefix": "/"}, "route": python},
    ]


def _by(lane: str) -> Json:
    return {"name": LANE_KEY, "string_match": {"exact": lane}}


def _tls(tls: Tls) -> Json:
    certificate = {"certificate_chain": _file(tls.certificate), "private_key": _file(tls.key)}
    common: Json = {"alpn_protocols": ["h2"], "tls_certificates": [certificate]}
    if tls.client_ca is not None:
        common["validation_context"] = {"trusted_ca": _file(tls.client_ca)}
    return typed(
        DOWNSTREAM_TLS_CONTEXT, common_tls_context=common, require_client_certificate=tls.client_ca is not None or None
    )


def _file(path: Path) -> Json:
    return {"filename": str(path)}
