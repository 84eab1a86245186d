"""A call: who makes it, where to, and what it looks like. Law: what could mean several is asked for, never guessed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from mesh.envoy.registry import hosts_of
from mesh.envoy.visible import Service, services, virtual_services
from mesh.explain.matcher import Headers
from mesh.istio.names import labels_match
from mesh.istio.proxies import Proxy
from mesh.istio.resource import Resource
from mesh.istio.virtual_service import VirtualService
from mesh.istio.world import World, proxy_of
from mesh.of_model import Candidate, UnclearError, choose
from protos.contract import MODEL_NAME, MODEL_VERSION, SERVICE


def workloads(world: World) -> tuple[Proxy, ...]:
    """Every WorkloadEntry as the proxy that it would have."""
    return tuple(map(proxy_of, world.workload_entries))


def caller(world: World, known: Sequence[Proxy], name: str | None = None) -> Proxy:
    """The one of that name (`NAMESPACE/NAME`); without a name the only one that no service selects. UnclearError."""
    named = {f"{one.namespace}/{one.name}": one for one in known}
    if name is not None:
        if name not in named:
            raise UnclearError(f"there is no workload {name}; there are {', '.join(named) or 'none'}")
        return named[name]
    found = {each: one for each, one in named.items() if not _serves(world, one)}
    if len(found) != 1:
        there = ", ".join(found or named) or "none is known"
        raise UnclearError(f"say with --from, or describe with --proxies, who calls; of the workloads: {there}")
    return next(iter(found.values()))


def _serves(world: World, one: Proxy) -> bool:
    selectors = (
        entry.spec.workload_selector.labels
        for entry in world.service_entries
        if entry.namespace == one.namespace and entry.spec.workload_selector is not None
    )
    return any(labels_match(labels, one.labels) for labels in selectors)


def authority(world: World, who: Proxy, model: str, host: str | None = None) -> str:
    """`HOST:PORT` that a caller's calls of a model are for. UnclearError."""
    seen = {service.host.lower(): service for service in services(world, who)}
    if host is not None:
        name, _, port = host.partition(":")
        return host if port else f"{name}:{_port(seen, name)}"
    routing = [_candidate(one) for one in virtual_services(world, who)]
    routed = {each.lower() for one in routing for each in one.hosts}
    alone = [Candidate(one.namespace, "", (one.host,)) for each, one in seen.items() if each not in routed]
    chosen = choose([*routing, *alone], model)
    registered = [each for each in chosen.hosts if each.lower() in seen]
    if len(registered) != 1:
        which = f"has the hosts {', '.join(registered)}" if registered else "has no host that a ServiceEntry registers"
        raise UnclearError(f"{chosen.title} {which}: say with --host which is meant")
    return f"{registered[0]}:{_port(seen, registered[0])}"


def call(model: str, authority: str, method: str, version: str | None, more: Headers) -> Headers:
    """The headers that the gateway's call has, and `more`. `method` is `[SERVICE/]METHOD`."""
    path = method if "/" in method else f"{SERVICE}/{method}"
    own = {
        ":method": "POST",
        ":scheme": "http",
        ":path": f"/{path.removeprefix('/')}",
        ":authority": authority,
        "content-type": "application/grpc",
        "te": "trailers",
        MODEL_NAME: model,
        **({MODEL_VERSION: version} if version is not None else {}),
    }
    return {**{name: (value,) for name, value in own.items()}, **more}


def _port(seen: Mapping[str, Service], host: str) -> int:
    service = seen.get(host.lower())
    if service is None:
        raise UnclearError(f"no service seen from there is {host}; there are {', '.join(sorted(seen)) or 'none'}")
    ports = [port.number for port in service.ports if port.http2]
    if len(ports) != 1:
        what = f"the ports {', '.join(map(str, ports))}" if ports else "no port for gRPC"
        raise UnclearError(f"{host} has {what}: say it with --host {host}:PORT")
    return ports[0]


def _candidate(one: Resource[VirtualService]) -> Candidate:
    return Candidate(one.namespace, one.name, hosts_of(one), frozenset(_models(one)))


def _models(one: Resource[VirtualService]) -> Iterator[str]:
    for route in one.spec.http:
        for match in route.match:
            for name, text in match.headers.items():
                if name.lower() == MODEL_NAME and text.exact is not None:
                    yield text.exact
