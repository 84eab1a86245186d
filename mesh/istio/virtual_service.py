"""VirtualService: where calls to a host go. Law: the first route that matches wins."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated

from pydantic import AfterValidator

from mesh.istio.http_route import HTTPRoute
from mesh.istio.message import Mistake, Unimplemented
from mesh.istio.names import check_host, is_ip, matches
from mesh.istio.selector import Exported, GatewayName, is_for_sidecars


def _host(value: str) -> str:
    return value if is_ip(value) else check_host(value)


class VirtualService(Exported):
    """`networking.istio.io` VirtualService. `http` is in order of evaluation."""

    hosts: tuple[Annotated[str, AfterValidator(_host)], ...] = ()
    gateways: tuple[GatewayName, ...] = ()
    http: tuple[HTTPRoute, ...] = ()
    tls: Unimplemented = None
    tcp: Unimplemented = None

    def mistakes(self) -> Iterator[Mistake]:
        """Hosts that overlap, a host that is everything, no routes."""
        if not self.hosts:
            yield ("hosts",), "not implemented: a VirtualService without hosts, for others to delegate to"
        for index, host in enumerate(self.hosts):
            if host == "*" and is_for_sidecars(self.gateways):
                yield ("hosts", index), "* is for gateways alone"
            for other in self.hosts[:index]:
                if matches(other, host):
                    yield ("hosts", index), f"{host} is there twice: {other} covers it"
        if not self.http:
            yield ("http",), "a VirtualService needs routes"
