"""ServiceEntry: a service and its ports. Law: its copies are listed, selected by labels, or found by DNS."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Final

from pydantic import AfterValidator

from mesh.istio.message import Message, Mistake, ProtoEnum, without
from mesh.istio.names import DnsLabel, Host, IpOrNetwork, check_fqdn, is_ip
from mesh.istio.selector import Exported, LabelSelector
from mesh.istio.values import Port
from mesh.istio.workload_entry import WorkloadEntry

_HTTP: Final = frozenset({"http", "http2", "grpc", "grpc-web"})
_OTHER: Final = frozenset({"", "tcp", "udp", "http_proxy", "https", "tls", "mongo", "redis", "mysql"})


class Location(ProtoEnum):
    """Whether a service's copies are part of the mesh."""

    MESH_EXTERNAL = "MESH_EXTERNAL"
    MESH_INTERNAL = "MESH_INTERNAL"


class Resolution(ProtoEnum):
    """How a service's copies are found."""

    NONE = "NONE"
    STATIC = "STATIC"
    DNS = "DNS"
    DNS_ROUND_ROBIN = "DNS_ROUND_ROBIN"
    DYNAMIC_DNS = "DYNAMIC_DNS"


def _protocol(value: str) -> str:
    if value.lower() in _OTHER:
        raise ValueError(f"not implemented: {value!r}; implemented are HTTP, HTTP2, GRPC and GRPC-WEB")
    if value.lower() not in _HTTP:
        raise ValueError(f"{value!r} is no protocol, as GRPC is")
    return value


class ServicePort(Message):
    """A port of a service. `target_port` None: the copies listen on the same number."""

    number: Port
    name: DnsLabel
    protocol: Annotated[str, AfterValidator(_protocol)]
    target_port: Port | None = None

    @property
    def http2(self) -> bool:
        """Whether the copies are spoken to in HTTP/2."""
        return self.protocol.lower() != "http"


class ServiceEntry(Exported):
    """`networking.istio.io` ServiceEntry."""

    export_words = frozenset({".", "*", "~"})

    hosts: tuple[Host, ...]
    addresses: tuple[IpOrNetwork, ...] = ()
    ports: tuple[ServicePort, ...] = ()
    location: Location = Location.MESH_EXTERNAL
    resolution: Annotated[Resolution, without("NONE", "DYNAMIC_DNS")]
    endpoints: tuple[WorkloadEntry, ...] = ()
    workload_selector: LabelSelector | None = None
    subject_alt_names: tuple[str, ...] = ()

    def mistakes(self) -> Iterator[Mistake]:
        """Hosts, ports and endpoints that do not fit together."""
        if not self.hosts:
            yield ("hosts",), "a service needs a host"
        if "*" in self.hosts:
            yield ("hosts", self.hosts.index("*")), "* is no host of a service"
        yield from self._mistakes_in_ports()
        yield from self._mistakes_in_endpoints()
        yield from self._mistakes_for_dns()

    def _mistakes_in_ports(self) -> Iterator[Mistake]:
        for index, port in enumerate(self.ports):
            before = self.ports[:index]
            if port.name in {other.name for other in before}:
                yield ("ports", index, "name"), f"{port.name} is there twice"
            if port.number in {other.number for other in before}:
                yield ("ports", index, "number"), f"{port.number} is there twice"

    def _mistakes_in_endpoints(self) -> Iterator[Mistake]:
        if self.workload_selector is not None and self.endpoints:
            yield ("endpoints",), "only one of workloadSelector and endpoints can be set"
        names = {port.name for port in self.ports}
        for index, endpoint in enumerate(self.endpoints):
            for name in endpoint.ports.keys() - names:
                yield ("endpoints", index, "ports", name), "is no port of the service"
            if self.resolution is Resolution.STATIC and not is_ip(endpoint.address):
                yield ("endpoints", index, "address"), f"{endpoint.address} is no IP address, as STATIC needs"

    def _mistakes_for_dns(self) -> Iterator[Mistake]:
        if self.resolution is Resolution.STATIC:
            return
        if any("/" in address for address in self.addresses):
            yield ("addresses",), "a network is possible with resolution STATIC alone"
        if self.resolution is Resolution.DNS_ROUND_ROBIN and len(self.endpoints) > 1:
            yield ("endpoints",), "DNS_ROUND_ROBIN takes one endpoint"
        if not self.endpoints:
            for index, host in enumerate(self.hosts):
                try:
                    check_fqdn(host)
                except ValueError as error:
                    yield ("hosts", index), f"{error}: DNS cannot find it, and there are no endpoints"
