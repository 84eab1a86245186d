"""Sidecar: what a workload may call. Law: the narrowest sidecar holds alone; without one, all is open."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated

from pydantic import AfterValidator

from mesh.istio.message import Message, Mistake, ProtoEnum, Unimplemented
from mesh.istio.names import check_host, is_dns_label
from mesh.istio.selector import LabelSelector


def _egress_host(value: str) -> str:
    namespace, slash, host = value.partition("/")
    if not slash:
        raise ValueError(f"{value!r} is not of the form NAMESPACE/HOST")
    if namespace.startswith("~") and namespace != "~":
        raise ValueError(f"not implemented: {value!r}, a namespace left out")
    if namespace not in ("*", ".", "~") and not is_dns_label(namespace):
        raise ValueError(f"{namespace!r} is no namespace")
    check_host(host)
    if "*" in host and host != "*" and not host.startswith("*."):
        raise ValueError(f"{host!r}: a wildcard is a whole label")
    if host != "*" and "." not in host:
        raise ValueError(f"{host!r} is no full name of a host")
    return value


class OutboundMode(ProtoEnum):
    """What happens to calls to hosts that no one registered."""

    REGISTRY_ONLY = "REGISTRY_ONLY"
    ALLOW_ANY = "ALLOW_ANY"


class OutboundTrafficPolicy(Message):
    """What happens to calls to hosts that no one registered."""

    mode: OutboundMode = OutboundMode.REGISTRY_ONLY
    egress_proxy: Unimplemented = None


class IstioEgressListener(Message):
    """Hosts that may be called, each `NAMESPACE/HOST`: namespace `.`, `*` or `~` (none), host with wildcards."""

    hosts: tuple[Annotated[str, AfterValidator(_egress_host)], ...]
    port: Unimplemented = None
    bind: Unimplemented = None
    capture_mode: Unimplemented = None

    def mistakes(self) -> Iterator[Mistake]:
        """No hosts."""
        if not self.hosts:
            yield ("hosts",), "must not be empty (~/* is nothing)"

    def pairs(self, namespace: str) -> tuple[tuple[str, str], ...]:
        """(namespace or `*`, host pattern) of each host, for a Sidecar in `namespace`; those of `~` are left out."""
        parts = (host.split("/", 1) for host in self.hosts)
        return tuple((namespace if space == "." else space, host) for space, host in parts if space != "~")


class Sidecar(Message):
    """`networking.istio.io` Sidecar. Without egress, everything exported may be called."""

    workload_selector: LabelSelector | None = None
    egress: tuple[IstioEgressListener, ...] = ()
    outbound_traffic_policy: OutboundTrafficPolicy | None = None
    ingress: Unimplemented = None
    inbound_connection_pool: Unimplemented = None

    def mistakes(self) -> Iterator[Mistake]:
        """A sidecar that says nothing; two egress listeners for every port."""
        if not self.egress and self.outbound_traffic_policy is None:
            yield (), "sets nothing"
        if len(self.egress) > 1:
            yield ("egress", 1), "only one egress listener can be without a port"
