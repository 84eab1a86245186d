"""PeerAuthentication: whether callers must show a certificate. Law: the narrowest policy that says something holds."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from mesh.istio.message import Message, Mistake, ProtoEnum
from mesh.istio.selector import WorkloadSelector
from mesh.istio.values import Port


class MutualTLSMode(ProtoEnum):
    """UNSET inherits from the next wider policy; without any it is PERMISSIVE."""

    UNSET = "UNSET"
    DISABLE = "DISABLE"
    PERMISSIVE = "PERMISSIVE"
    STRICT = "STRICT"


class MutualTLS(Message):
    """Mutual TLS on the way in."""

    mode: MutualTLSMode = MutualTLSMode.UNSET


class PeerAuthentication(Message):
    """`security.istio.io` PeerAuthentication. `port_level_mtls` is by the workload's port."""

    selector: WorkloadSelector | None = None
    mtls: MutualTLS | None = None
    port_level_mtls: Mapping[Port, MutualTLS] = {}

    def mistakes(self) -> Iterator[Mistake]:
        """Ports of no workload in particular."""
        if self.port_level_mtls and not (self.selector and self.selector.labels):
            yield ("portLevelMtls",), "needs a selector: it is for single workloads"
