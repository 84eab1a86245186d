"""Which connections a filter chain takes, by mTLS mode. Law: what no chain takes is closed, so STRICT has no plain one.

Source: Istio's pilot/pkg/networking/core/filterchain_options.go.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from mesh.envoy.proto import Json, message
from mesh.istio.peer_authentication import MutualTLSMode

PLAIN_HTTP: Final = ("http/1.1", "h2c")
"""What the HTTP inspector finds in plain text."""
_MESH_HTTP: Final = ("istio-http/1.0", "istio-http/1.1", "istio-h2")
_MESH_TCP: Final = ("istio-peer-exchange", "istio")
_MESH: Final = ("istio", "istio-peer-exchange", *_MESH_HTTP)

TLS: Final = "tls"
PLAIN: Final = "raw_buffer"


@dataclass(frozen=True)
class Match:
    """A kind of connection: how it is carried, and whether the chain speaks HTTP and ends the TLS."""

    transport: str
    applications: Sequence[str] = ()
    http: bool = False
    terminates: bool = False

    def json(self, port: int | None) -> Json:
        """Envoy's FilterChainMatch. `port` None: any."""
        applications = list(self.applications) or None
        return message(application_protocols=applications, destination_port=port, transport_protocol=self.transport)


def for_http(mode: MutualTLSMode) -> tuple[Match, ...]:
    """The chains of a port that is declared to speak HTTP."""
    return _HTTP_CHAINS[mode]


def for_any(mode: MutualTLSMode) -> tuple[Match, ...]:
    """The chains of ports that no service names: HTTP where it is seen, else bytes."""
    return _ANY_CHAINS[mode]


_HTTP_CHAINS: Final = {
    MutualTLSMode.STRICT: (Match(TLS, http=True, terminates=True),),
    MutualTLSMode.PERMISSIVE: (Match(TLS, _MESH, http=True, terminates=True), Match(PLAIN, http=True)),
    MutualTLSMode.DISABLE: (Match(PLAIN, http=True),),
}
_ANY_CHAINS: Final = {
    MutualTLSMode.STRICT: (
        Match(TLS, _MESH_HTTP, http=True, terminates=True),
        Match(TLS, terminates=True),
    ),
    MutualTLSMode.PERMISSIVE: (
        Match(TLS, _MESH_HTTP, http=True, terminates=True),
        Match(PLAIN, PLAIN_HTTP, http=True),
        Match(TLS, _MESH_TCP, terminates=True),
        Match(PLAIN),
        Match(TLS),
    ),
    MutualTLSMode.DISABLE: (Match(PLAIN, PLAIN_HTTP, http=True), Match(PLAIN)),
}
