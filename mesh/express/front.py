"""The Envoy at the public address, as its bootstrap says. Law: what is not carried by the script is Python's.

The caller's own `x-headrace-` headers are gone before the script runs, and ours before a caller could read them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from mesh.envoy.proto import UINT32_MAX, Json, message, typed
from mesh.envoy.reading import part
from mesh.express.rules import LEARN_KEY, LESSON_KEY, Rules, script
from mesh.istio.names import is_ip

_HCM: Final = "envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager"
_LUA: Final = "envoy.extensions.filters.http.lua.v3.Lua"
_MUTATION: Final = "envoy.extensions.filters.http.header_mutation.v3.HeaderMutation"
_EARLY: Final = "envoy.extensions.http.early_header_mutation.header_mutation.v3.HeaderMutation"
_ROUTER: Final = "envoy.extensions.filters.http.router.v3.Router"
_HTTP: Final = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"
_TLS: Final = "envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext"
_UUID: Final = "envoy.extensions.request_id.uuid.v3.UuidRequestIdConfig"

_PYTHON: Final = "python"
_LANE, _CLUSTER = "x-headrace-lane", "x-headrace-cluster"
_OURS: Final = (_LANE, _CLUSTER, LEARN_KEY, LESSON_KEY)
_HTTP2: Final[Json] = {"connection_keepalive": {"interval": "20s", "timeout": "5s"}}  # as gateway.upstream has it
# Where all copies are out, all get calls: who has no health service answers as before.
_HEALTH: Final[Json] = {
    "timeout": "1s",
    "interval": "1s",
    "no_traffic_interval": "1s",
    "unhealthy_threshold": 1,
    "healthy_threshold": 1,
    "grpc_health_check": {},
}
_STREAMS: Final = 1000  # calls at a time on one connection, as of the Python lane's own door
_HEADERS: Final = 64  # KiB
_MARGIN: Final = 1024 * 1024  # bytes over the largest request in which Python can tell TOO_LARGE
_MESSAGE_WITHIN: Final = "30s"  # in which a message must have come


@dataclass(frozen=True)
class Tls:
    """PEM files of the public address; with `client_ca`, callers must show a certificate that it signed."""

    certificate: Path
    key: Path
    client_ca: Path | None


@dataclass(frozen=True)
class Front:
    """One Envoy: where it listens, where Python and its own admin pages are (sockets), and where calls go.

    `clusters`: name -> addresses of copies that answer alike, each HOST:PORT; `checked`: whether it is for us, and not
    for the mesh, to look at their health. `largest`: bytes of a request.
    """

    address: str
    tls: Tls | None
    python: Path
    admin: Path
    clusters: Mapping[str, Sequence[str]]
    checked: bool
    largest: int
    rules: Rules


def bootstrap(front: Front) -> Json:
    """envoy.config.bootstrap.v3.Bootstrap."""
    clusters = [_copies(name, copies, checked=front.checked) for name, copies in front.clusters.items()]
    return {
        "node": {"id": "headrace-gateway", "cluster": "headrace-gateway"},
        "admin": {"address": {"pipe": {"path": str(front.admin), "mode": 0o600}}},
        "static_resources": {
            "listeners": [_listener(front)],
            "clusters": [_cluster(_PYTHON, [{"pipe": {"path": str(front.python)}}]), *clusters],
        },
        "overload_manager": {
            "resource_monitors": [
                {
                    "name": "envoy.resource_monitors.global_downstream_max_connections",
                    "typed_config": typed(
                        "envoy.extensions.resource_monitors.downstream_connections.v3.DownstreamConnectionsConfig",
                        max_active_downstream_connections=50_000,
                    ),
                }
            ]
        },
    }


def _listener(front: Front) -> Json:
    chain: Json = {"filters": [{"name": "http", "typed_config": _http(front)}]}
    if front.tls is not None:
        chain["transport_socket"] = {"name": "envoy.transport_sockets.tls", "typed_config": _tls(front.tls)}
    address = _at(front.address)
    return {
        "name": "front",
        "address": {"socket_address": {**part(address, "socket_address"), "ipv4_compat": "[::]" in front.address}},
        "per_connection_buffer_limit_bytes": min(front.largest + _MARGIN, UINT32_MAX),
        "filter_chains": [chain],
    }


def _http(front: Front) -> Json:
    return typed(
        _HCM,
        stat_prefix="front",
        codec_type="HTTP2",
        http2_protocol_options={"max_concurrent_streams": _STREAMS},
        max_request_headers_kb=_HEADERS,
        use_remote_address=True,
        skip_xff_append=True,
        early_header_mutation_extensions=[
            {"name": "ours", "typed_config": typed(_EARLY, mutations=_gone(*_OURS, "x-request-id"))}
        ],
        request_id_extension={"typed_config": typed(_UUID, pack_trace_reason=False)},
        stream_idle_timeout="0s",
        server_header_transformation="PASS_THROUGH",
        route_config={"name": "front", "virtual_hosts": [{"name": "all", "domains": ["*"], "routes": _routes(front)}]},
        http_filters=[
            {"name": "ours", "typed_config": typed(_MUTATION, mutations={"response_mutations": _gone(*_OURS)})},
            {
                "name": "envoy.filters.http.lua",
                "typed_config": typed(_LUA, default_source_code={"inline_string": script(front.rules)}),
            },
            {"name": "envoy.filters.http.router", "typed_config": typed(_ROUTER, suppress_envoy_headers=True)},
        ],
    )


def _gone(*names: str) -> list[Json]:
    return [{"remove": name} for name in names]


def _routes(front: Front) -> list[Json]:
    """Of the calls that the script carries; of those that it has not decided yet; and of all others."""
    bounded = {"max_stream_duration": {"grpc_timeout_header_max": "0s"}}
    carried = {"cluster_header": _CLUSTER, "timeout": "0s", "idle_timeout": "0s", **bounded}
    python = {"cluster": _PYTHON, "timeout": "0s", "idle_timeout": "0s"}
    return [
        {
            "match": {"prefix": "/", "headers": [{"name": _LANE, "string_match": {"exact": "express"}}]},
            "metadata": {"filter_metadata": {"envoy.filters.http.lua": {"lane": "express"}}},
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
        {"match": {"path": front.rules.path}, "route": python | {"idle_timeout": _MESSAGE_WITHIN}},
        {"match": {"prefix": "/"}, "route": python},
    ]


def _asked() -> Json:
    return {"name": _LANE, "string_match": {"exact": _PYTHON}}


def _tls(tls: Tls) -> Json:
    certificate = {"certificate_chain": _file(tls.certificate), "private_key": _file(tls.key)}
    common: Json = {"alpn_protocols": ["h2"], "tls_certificates": [certificate]}
    if tls.client_ca is not None:
        common["validation_context"] = {"trusted_ca": _file(tls.client_ca)}
    return typed(_TLS, common_tls_context=common, require_client_certificate=tls.client_ca is not None or None)


def _file(path: Path) -> Json:
    return {"filename": str(path)}


def _copies(name: str, addresses: Sequence[str], *, checked: bool) -> Json:
    numbers = all(is_ip(address.rpartition(":")[0].strip("[]")) for address in addresses)
    kind: Json = {"type": "STATIC" if numbers else "STRICT_DNS"}
    health: Json = {"health_checks": [_HEALTH]} if checked else {}
    return _cluster(name, [_at(address) for address in addresses]) | kind | health


def _cluster(name: str, addresses: Sequence[Json]) -> Json:
    """Copies that take turns; how many calls they bear is said elsewhere, by the mesh or by themselves."""
    unbounded = {"max_connections": UINT32_MAX, "max_pending_requests": UINT32_MAX, "max_requests": UINT32_MAX}
    endpoints = [{"endpoint": {"address": address}} for address in addresses]
    return message(
        name=name,
        connect_timeout="1s",
        circuit_breakers={"thresholds": [unbounded]},
        typed_extension_protocol_options={_HTTP: typed(_HTTP, explicit_http_config={"http2_protocol_options": _HTTP2})},
        load_assignment={"cluster_name": name, "endpoints": [{"lb_endpoints": endpoints}]},
    )


def _at(address: str) -> Json:
    host, _, port = address.rpartition(":")
    return {"socket_address": {"address": host.strip("[]"), "port_value": int(port)}}
