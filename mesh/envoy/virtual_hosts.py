"""Virtual hosts: the routes for a call's authority. Law: a host and a domain belong to the first that claims them.

VirtualServices claim first, in Istio's order; then come the services without one. Source: Istio's
BuildSidecarOutboundVirtualHosts and BuildSidecarVirtualHostWrapper.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from mesh.envoy.domains import addresses, bracketed, short_names
from mesh.envoy.proto import Json
from mesh.envoy.visible import Service


@dataclass(frozen=True)
class Claim:
    """Routes for services, and for hosts that no one registered."""

    hosts: tuple[str, ...]
    services: tuple[Service, ...]
    routes: Sequence[Json]


def virtual_hosts(claims: Iterable[Claim], port: int, namespace: str, *, with_port: bool = False) -> list[Json]:
    """Each envoy.config.route.v3.VirtualHost for callers in a namespace, by name.

    `with_port`: each domain also with the port, for callers that look for their authority as it is.
    """
    claims = tuple(claims)
    registered = {name for claim in claims for one in claim.services for name in _names(one.host.lower(), port)}
    taken: set[str] = set()
    found: dict[str, Json] = {}
    for claim in claims:
        for host, domains, short in _claimed(claim, namespace, port if with_port else None):
            name = f"{bracketed(host)}:{port}"
            if name in found:
                continue
            free = [one for one in dict.fromkeys(domains) if one.lower() not in taken]
            free = [one for one in free if one not in short or one not in registered]
            taken.update(one.lower() for one in free)
            found[name] = virtual_host(name, free, claim.routes)
    return [found[name] for name in sorted(found) if found[name]["domains"]]


def virtual_host(name: str, domains: Sequence[str], routes: Sequence[Json]) -> Json:
    """envoy.config.route.v3.VirtualHost. Workers learn in a header how often a call has been tried."""
    return {
        "name": name,
        "domains": list(domains),
        "routes": list(routes),
        "include_request_attempt_count": True,
    }


def _claimed(claim: Claim, namespace: str, port: int | None) -> Iterator[tuple[str, Sequence[str], Sequence[str]]]:
    """(host, all its domains, those of them that are only other spellings) of each host of a claim."""
    for host in map(str.lower, claim.hosts):
        yield host, _spelled((bracketed(host),), port), ()
    for service in claim.services:
        host = service.host.lower()
        short = short_names(host, namespace)
        yield host, _spelled((host, *short, *addresses(service.entry.spec)), port), _spelled(short, port)


def _spelled(domains: Iterable[str], port: int | None) -> tuple[str, ...]:
    """Domains; with a port, each also as `DOMAIN:PORT`."""
    return tuple(text for one in domains for text in ((one,) if port is None else (one, f"{one}:{port}")))


def _names(host: str, port: int) -> tuple[str, str]:
    return host, f"{host}:{port}"
