"""Limits of connections and calls, and the protocol towards the copies. Law: what is not limited is without limit.

Source: Istio's applyConnectionPool in pilot/pkg/networking/core/cluster_traffic_policy.go.
"""

from __future__ import annotations

from mesh.envoy.proto import HTTP_PROTOCOL_OPTIONS, UINT32_MAX, Json, duration, message, percent, typed
from mesh.istio.connection_pool import H2UpgradePolicy, HTTPSettings, TcpKeepalive, TCPSettings
from mesh.istio.destination_rule import RetryBudget, TrafficPolicy

_CONNECT_TIMEOUT = "10s"
_RETRY_PERCENT = 20.0
_RETRY_CONCURRENCY = 3
_NO_TCP = TCPSettings()
_NO_HTTP = HTTPSettings()


def limits(policy: TrafficPolicy | None) -> Json:
    """The fields of a cluster that limit connections, calls and retries."""
    tcp = _tcp(policy)
    thresholds = _thresholds(tcp, _http(policy), policy.retry_budget if policy else None)
    keepalive: Json | None = None if tcp.tcp_keepalive is None else {"tcp_keepalive": _keepalive(tcp.tcp_keepalive)}
    return message(
        connect_timeout=duration(tcp.connect_timeout) or _CONNECT_TIMEOUT,
        circuit_breakers={"thresholds": [thresholds]},
        upstream_connection_options=keepalive,
    )


def _thresholds(tcp: TCPSettings, http: HTTPSettings, budget: RetryBudget | None) -> Json:
    return message(
        max_connections=tcp.max_connections or UINT32_MAX,
        max_pending_requests=http.http1_max_pending_requests or UINT32_MAX,
        max_requests=http.http2_max_requests or UINT32_MAX,
        max_retries=http.max_retries or UINT32_MAX,
        retry_budget=None if budget is None else _retry_budget(budget),
    )


def _retry_budget(budget: RetryBudget) -> Json:
    return message(
        budget_percent=percent(_RETRY_PERCENT if budget.percent is None else budget.percent),
        budget_interval=duration(budget.budget_interval),
        min_retry_concurrency=budget.min_retry_concurrency or _RETRY_CONCURRENCY,
    )


def _keepalive(keepalive: TcpKeepalive) -> Json:
    """envoy.config.core.v3.TcpKeepalive: whole seconds, what is below is cut off."""
    return message(
        keepalive_probes=keepalive.probes or None,
        keepalive_time=None if keepalive.time is None else int(keepalive.time.seconds),
        keepalive_interval=None if keepalive.interval is None else int(keepalive.interval.seconds),
    )


def speaks_http2(policy: TrafficPolicy | None, *, http2: bool) -> bool:
    """Whether a caller opens HTTP/2 connections whatever it was called with itself."""
    http = _http(policy)
    return not http.use_client_protocol and (http2 or http.h2_upgrade_policy is H2UpgradePolicy.UPGRADE)


def http_options(policy: TrafficPolicy | None, *, http2: bool) -> Json | None:
    """`typed_extension_protocol_options`: the protocol, and limits of a connection. None for plain HTTP/1.1."""
    http = _http(policy)
    common = _common(policy, http)
    if not http2 and common is None and not http.use_client_protocol:
        return None
    protocol: Json = {"explicit_http_config": {"http_protocol_options": {}}}
    if http.use_client_protocol:
        protocol = {"use_downstream_protocol_config": {"http_protocol_options": {}, "http2_protocol_options": {}}}
    elif http2:
        protocol = {"explicit_http_config": {"http2_protocol_options": _http2(http)}}
    options = typed(HTTP_PROTOCOL_OPTIONS, common_http_protocol_options=common, **protocol)
    return {HTTP_PROTOCOL_OPTIONS: options}


def _http(policy: TrafficPolicy | None) -> HTTPSettings:
    pool = policy.connection_pool if policy else None
    return (pool and pool.http) or _NO_HTTP


def _tcp(policy: TrafficPolicy | None) -> TCPSettings:
    pool = policy.connection_pool if policy else None
    return (pool and pool.tcp) or _NO_TCP


def _common(policy: TrafficPolicy | None, http: HTTPSettings) -> Json | None:
    """envoy.config.core.v3.HttpProtocolOptions; None if nothing is limited."""
    tcp = _tcp(policy)
    common = message(
        idle_timeout=duration(http.idle_timeout or tcp.idle_timeout),
        max_requests_per_connection=http.max_requests_per_connection or None,
        max_connection_duration=duration(tcp.max_connection_duration),
    )
    return common if common or http.max_concurrent_streams or http.http2_keep_alive else None


def _http2(http: HTTPSettings) -> Json:
    ping = http.http2_keep_alive
    return message(
        max_concurrent_streams=http.max_concurrent_streams or None,
        connection_keepalive=ping and {"interval": ping.interval.json, "timeout": ping.timeout.json},
    )
