"""How many connections and calls a service may have. Law: 0 means that Istio's own limit holds."""

from __future__ import annotations

from collections.abc import Iterator

from mesh.istio.message import Message, Mistake, ProtoEnum
from mesh.istio.values import Bool, Count, DurationOrOff, PositiveDuration, UInt32


class TcpKeepalive(Message):
    """Probes of a silent connection."""

    probes: UInt32 = 0
    time: PositiveDuration | None = None
    interval: PositiveDuration | None = None


class TCPSettings(Message):
    """Limits of connections."""

    max_connections: Count = 0
    connect_timeout: PositiveDuration | None = None
    tcp_keepalive: TcpKeepalive | None = None
    max_connection_duration: PositiveDuration | None = None
    idle_timeout: DurationOrOff | None = None


class H2UpgradePolicy(ProtoEnum):
    """Whether HTTP/1.1 is carried over HTTP/2."""

    DEFAULT = "DEFAULT"
    DO_NOT_UPGRADE = "DO_NOT_UPGRADE"
    UPGRADE = "UPGRADE"


class ConnectionKeepalive(Message):
    """HTTP/2 pings."""

    interval: PositiveDuration
    timeout: PositiveDuration


class HTTPSettings(Message):
    """Limits of calls."""

    http1_max_pending_requests: Count = 0
    http2_max_requests: Count = 0
    max_requests_per_connection: Count = 0
    max_retries: Count = 0
    idle_timeout: PositiveDuration | None = None
    h2_upgrade_policy: H2UpgradePolicy = H2UpgradePolicy.DEFAULT
    use_client_protocol: Bool = False
    max_concurrent_streams: Count = 0
    http2_keep_alive: ConnectionKeepalive | None = None

    def mistakes(self) -> Iterator[Mistake]:
        """Two wishes about the protocol."""
        if self.use_client_protocol and self.h2_upgrade_policy is H2UpgradePolicy.UPGRADE:
            yield ("useClientProtocol",), "cannot be true beside h2UpgradePolicy: UPGRADE"


class ConnectionPoolSettings(Message):
    """Limits of connections and calls."""

    tcp: TCPSettings | None = None
    http: HTTPSettings | None = None

    def mistakes(self) -> Iterator[Mistake]:
        """No limit at all."""
        if self.tcp is None and self.http is None:
            yield (), "sets nothing"
