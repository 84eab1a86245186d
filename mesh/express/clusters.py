"""Where the Envoy in front sends calls. Law: copies take turns; how many calls they bear is said elsewhere."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Final

from mesh.envoy.proto import HTTP_PROTOCOL_OPTIONS, UINT32_MAX, Json, message, percent, typed
from mesh.istio.names import is_ip

# As gateway.upstream has it: gRPC's servers take pings more often than every 300 s for abuse.
_SIDECARS, _SERVERS = "20s", "310s"
# Bytes of a call that wait for who is to take them, each way. Calls share a connection: all together hold up no other.
# https://www.envoyproxy.io/docs/envoy/latest/api-v3/config/core/v3/protocol.proto
WINDOWS: Final[Json] = {"initial_stream_window_size": 4 * 1024 * 1024, "initial_connection_window_size": 2**31 - 1}
_UPDATES: Final = 10_000
"""Window updates that a peer of ours may send for each frame of data: gRPC is generous with them, Envoy allows ten.

Over these it closes the connection, and with it every call.
"""
# Where all copies are out, all get calls: who has no health service answers as before.
HEALTH: Final[Json] = {
    "timeout": "1s",
    "interval": "1s",
    "no_traffic_interval": "1s",
    "unhealthy_threshold": 1,
    "healthy_threshold": 1,
    "grpc_health_check": {},
}


def copies(name: str, addresses: Sequence[str], *, checked: bool = False, budget: float | None = None) -> Json:
    """A cluster of addresses, each HOST:PORT; `checked`: whether it is for us to look at their health.

    `budget`: the most that retries may add to the calls that run, as a share; None is no bound.
    """
    numbers = all(is_ip(address.rpartition(":")[0].strip("[]")) for address in addresses)
    kind: Json = {"type": "STATIC" if numbers else "STRICT_DNS"}
    health: Json = {"health_checks": [HEALTH]} if checked else {}
    pings = _SERVERS if checked else _SIDECARS
    return cluster(name, [at(address) for address in addresses], budget, pings) | kind | health


def cluster(name: str, addresses: Sequence[Json], budget: float | None = None, pings: str = _SIDECARS) -> Json:
    """envoy.config.cluster.v3.Cluster, at these addresses, which are asked so often whether they are there."""
    unbounded: Json = {"max_connections": UINT32_MAX, "max_pending_requests": UINT32_MAX, "max_requests": UINT32_MAX}
    # Unset, three retries at a time were all.
    retries: Json = (
        {"max_retries": UINT32_MAX} if budget is None else {"retry_budget": {"budget_percent": percent(100 * budget)}}
    )
    http2: Json = {"connection_keepalive": {"interval": pings, "timeout": "5s"}, **WINDOWS}
    http2["max_inbound_window_update_frames_per_data_frame_sent"] = _UPDATES
    options = typed(HTTP_PROTOCOL_OPTIONS, explicit_http_config={"http2_protocol_options": http2})
    endpoints = [{"endpoint": {"address": address}} for address in addresses]
    return message(
        name=name,
        connect_timeout="1s",
        circuit_breakers={"thresholds": [unbounded | retries]},
        typed_extension_protocol_options={HTTP_PROTOCOL_OPTIONS: options},
        load_assignment={"cluster_name": name, "endpoints": [{"lb_endpoints": endpoints}]},
    )


def at(address: str) -> Json:
    """envoy.config.core.v3.Address of HOST:PORT."""
    host, _, port = address.rpartition(":")
    return {"socket_address": {"address": host.strip("[]"), "port_value": int(port)}}


def pipe(path: Path) -> Json:
    """envoy.config.core.v3.Address of a socket that is ours alone."""
    return {"pipe": {"path": str(path), "mode": 0o600}}
