"""TCP proxies. Law: what no service names is passed on to where it was going, or to nowhere."""

from __future__ import annotations

from ipaddress import ip_address
from typing import Final

from mesh.envoy.proto import Json, named

BLACK_HOLE: Final = "BlackHoleCluster"
OUTBOUND_PASSTHROUGH: Final = "PassthroughCluster"
INBOUND_PASSTHROUGH: Final = "InboundPassthroughCluster"

OUTBOUND_PORT: Final = 15001
"""Where captured connections of the workload arrive."""
INBOUND_PORT: Final = 15006
"""Where captured connections to the workload arrive."""


def proxy(cluster: str) -> Json:
    """The network filter that sends bytes to a cluster."""
    kind = "envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy"
    return named("envoy.filters.network.tcp_proxy", kind, cluster=cluster, stat_prefix=cluster)


def black_hole(name: str, port: int) -> Json:
    """The chain for connections to the listener's own port, which would else run in a circle."""
    return {"name": name, "filter_chain_match": {"destination_port": port}, "filters": [proxy(BLACK_HOLE)]}


def everywhere(workload: str) -> str:
    """The address that stands for all of a machine's, of the kind of the workload's."""
    return "::" if ip_address(workload).version == 6 else "0.0.0.0"  # noqa: S104 - captured connections keep theirs


def address(ip: str, port: int) -> Json:
    """Envoy's Address."""
    return {"socket_address": {"address": ip, "port_value": port}}
