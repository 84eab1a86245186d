"""Which virtual host a call's authority belongs to. Law: the host itself, else the longest wildcard, else everyone's.

Domains are told apart without regard to case, and without the port where the table says so.
Source: Envoy's RouteConfiguration and VirtualHost.domains.
"""

from __future__ import annotations

from mesh.envoy.proto import Json
from mesh.envoy.reading import parts


def virtual_host(table: Json, authority: str) -> Json | None:
    """The envoy.config.route.v3.VirtualHost of a RouteConfiguration for an authority; None: Envoy answers 404."""
    name = _without_port(authority) if table.get("ignore_port_in_host_matching") else authority
    domains = {domain.lower(): one for one in parts(table, "virtual_hosts") for domain in _domains(one)}
    best = max((domain for domain in domains if _covers(domain, name.lower())), key=_rank, default=None)
    return None if best is None else domains[best]


def _domains(one: Json) -> list[str]:
    found = one.get("domains")
    return [str(domain) for domain in found] if isinstance(found, list) else []


def _covers(domain: str, name: str) -> bool:
    """A wildcard stands for at least one character; alone, for everything."""
    if domain == "*":
        return True
    if domain.startswith("*"):
        return len(name) >= len(domain) and name.endswith(domain[1:])
    if domain.endswith("*"):
        return len(name) >= len(domain) and name.startswith(domain[:-1])
    return domain == name


def _rank(domain: str) -> tuple[int, int]:
    """Exact domains, wildcards at the start, wildcards at the end, everything; of equals, the longest."""
    kind = 3 if "*" not in domain else 2 if domain[0] == "*" else 1
    return (0 if domain == "*" else kind), len(domain)


def _without_port(authority: str) -> str:
    name, colon, port = authority.rpartition(":")
    return name if colon and port.isdigit() else authority
