"""The Envoy at the public address, as its bootstrap says. Law: what is not carried by the script is Python's.

The caller's own `x-headrace-` headers are gone before the script runs, and ours before a caller could read them.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

from mesh.envoy.proto import DOWNSTREAM_TLS_CONTEXT, TLS_TRANSPORT_SOCKET, Json, named, typed
from mesh.envoy.reading import part
from mesh.express.clusters import at, cluster, copies
from mesh.express.rules import (
    ASKED,
    GENERATION_KEY,
    LEARN_KEY,
    LESSON_KEY,
    MESSAGE_WITHIN,
    PYTHON,
    Rules,
    script,
    script_of_answers,
)
from mesh.express.traced import COLLECTOR, TO_KEY, TRACED, Tracing
from mesh.express.traced import listener as traced_listener
from mesh.local.files import source

_HCM: Final = "envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager"
_LUA: Final = "envoy.extensions.filters.http.lua.v3.Lua"
_LUA_OF_ROUTE: Final = "envoy.extensions.filters.http.lua.v3.LuaPerRoute"
_EARLY: Final = "envoy.extensions.http.early_header_mutation.header_mutation.v3.HeaderMutation"
_ROUTER: Final = "envoy.extensions.filters.http.router.v3.Router"

_CONNECTIONS: Final = "envoy.resource_monitors.global_downstream_max_connections"
_MONITOR: Final = "envoy.extensions.resource_monitors.downstream_connections.v3.DownstreamConnectionsConfig"
LISTENER: Final = "front"
"""The listener at the public address."""
_LANE, _CLUSTER = "x-headrace-lane", "x-headrace-cluster"
_OURS: Final = (_LANE, _CLUSTER, LEARN_KEY, LESSON_KEY, GENERATION_KEY, TO_KEY)
_MOST_CONNECTIONS: Final = 50_000
_RUNTIME: Final[Json] = {"tracing.opentelemetry.flush_interval_ms": 500}  # as the Python lane's
_STREAMS: Final = 1000  # calls at a time on one connection, as of the Python lane's own door
_WINDOW: Final = 2**31 - 1  # bytes; RFC 9113, section 6.9.1
_HEADERS: Final = 64  # KiB
_MARGIN: Final = 1024 * 1024  # bytes over the largest request in which Python can tell TOO_LARGE
_MESSAGE_WITHIN: Final = f"{MESSAGE_WITHIN}s"


@dataclass(frozen=True)
class Tls:
    """PEM files of the public address; with `client_ca`, callers must show a certificate that it signed."""

    certificate: Path
    key: Path
    client_ca: Path | None


@dataclass(frozen=True)
class Front:
    """One Envoy: where it listens, and the sockets: Python's, its own admin pages, its hop of traced calls.

    `clusters`: the file that says where calls may go (`mesh.local.files`). `largest`: bytes of a request. Without
    `tracing` no call is traced here.
    """

    address: str
    tls: Tls | None
    python: Path
    asked: Path
    admin: Path
    clusters: Path
    largest: int
    rules: Rules
    tracing: Tracing | None
    traced: Path


def bootstrap(front: Front) -> Json:
    """envoy.config.bootstrap.v3.Bootstrap."""
    connections = named(_CONNECTIONS, _MONITOR, max_active_downstream_connections=_MOST_CONNECTIONS)
    listeners = [_listener(front)]
    clusters = [cluster(PYTHON, [_pipe(front.python)]), cluster(ASKED, [_pipe(front.asked)])]
    if front.tracing is not None:
        listeners.append(traced_listener(front.tracing, front.traced))
        clusters += [cluster(TRACED, [_pipe(front.traced)]), copies(COLLECTOR, [front.tracing.collector])]
    return {
        "node": {"id": "headrace-gateway", "cluster": "headrace-gateway"},
        "admin": {"address": _pipe(front.admin)},
        "dynamic_resources": {"cds_config": source(front.clusters)},
        "static_resources": {"listeners": listeners, "clusters": clusters},
        "layered_runtime": {"layers": [{"name": "fixed", "static_layer": _RUNTIME}]},
        "overload_manager": {"resource_monitors": [connections]},
    }


def _pipe(path: Path) -> Json:
    return {"pipe": {"path": str(path), "mode": 0o600}}


def _listener(front: Front) -> Json:
    chain: Json = {"filters": [{"name": "http", "typed_config": _http(front)}]}
    if front.tls is not None:
        chain["transport_socket"] = {"name": TLS_TRANSPORT_SOCKET, "typed_config": _tls(front.tls)}
    address = at(front.address)
    return {
        "name": LISTENER,
        "address": {"socket_address": {**part(address, "socket_address"), "ipv4_compat": "[::]" in front.address}},
        "per_connection_buffer_limit_bytes": _held(front),
        "filter_chains": [chain],
    }


def _held(front: Front) -> int:
    """Bytes of a message that may be held back until it is decided; Envoy takes the smaller of buffer and window."""
    return min(front.largest + _MARGIN, _WINDOW)


def _http(front: Front) -> Json:
    return typed(
        _HCM,
        stat_prefix="front",
        codec_type="HTTP2",
        http2_protocol_options={"max_concurrent_streams": _STREAMS, "initial_stream_window_size": _held(front)},
        max_request_headers_kb=_HEADERS,
        use_remote_address=True,
        skip_xff_append=True,
        early_header_mutation_extensions=[
            {"name": "ours", "typed_config": typed(_EARLY, mutations=_gone(*_OURS, "x-request-id"))}
        ],
        generate_request_id=False,
        stream_idle_timeout="0s",
        server_header_transformation="PASS_THROUGH",
        local_reply_config={"mappers": [_too_large()]},
        route_config={"name": "front", "virtual_hosts": [{"name": "all", "domains": ["*"], "routes": _routes(front)}]},
        http_filters=[
            {
                "name": "envoy.filters.http.lua",
                "typed_config": typed(_LUA, default_source_code={"inline_string": script(front.rules)}),
            },
            {"name": "envoy.filters.http.router", "typed_config": typed(_ROUTER, suppress_envoy_headers=True)},
        ],
    )


def _too_large() -> Json:
    """A message that is over what is held back here gets the status that gRPC itself would give it."""
    status = {"header": {"key": "grpc-status", "value": "8"}, "append_action": "OVERWRITE_IF_EXISTS_OR_ADD"}
    too_large = {"comparison": {"op": "EQ", "value": {"default_value": 413, "runtime_key": "headrace.none"}}}
    return {"filter": {"status_code_filter": too_large}, "headers_to_add": [status]}


def _gone(*names: str) -> list[Json]:
    return [{"remove": name} for name in names]


def _routes(front: Front) -> list[Json]:
    """Of the calls that the script carries; of those that it has not decided yet; and of all others."""
    bounded = {"max_stream_duration": {"grpc_timeout_header_max": "0s"}}
    answers = typed(_LUA_OF_ROUTE, source_code={"inline_string": script_of_answers(front.rules)})
    carried = {"cluster_header": _CLUSTER, "timeout": "0s", "idle_timeout": "0s", **bounded}
    python: Json = {"cluster": PYTHON, "timeout": "0s", "idle_timeout": "0s"}
    undecided = python | {"idle_timeout": _MESSAGE_WITHIN}
    return [
        {
            "match": {"prefix": "/", "headers": [{"name": _LANE, "string_match": {"exact": "express"}}]},
            "typed_per_filter_config": {"envoy.filters.http.lua": answers},
            "request_headers_to_remove": [_LANE, _CLUSTER, "x-forwarded-proto", "x-forwarded-for", "user-agent"],
            "response_headers_to_add": [
                {
                    "header": {"key": "x-request-id", "value": "%REQ(X-REQUEST-ID)%"},
                    "append_action": "OVERWRITE_IF_EXISTS_OR_ADD",
                }
            ],
            "route": carried,
        },
        {"match": {"path": front.rules.path, "headers": [_asked()]}, "route": python},
        {"match": {"path": front.rules.path}, "route": undecided},
        {"match": {"prefix": "/"}, "route": python},
    ]


def _asked() -> Json:
    return {"name": _LANE, "string_match": {"exact": PYTHON}}


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
