"""Direct mode: the channels to the workers. Law: gRPC's own client does what the mesh does elsewhere.

By its service config: round robin over the copies, or, for sequences, a ring (gRFC A42 and A76, which is the same in
every process), health checks (a copy whose `grpc.health.v1` says NOT_SERVING gets no calls), retries with throttling.
What every copy must get goes to each by a channel of its own, whatever its health.
Service config: https://github.com/grpc/grpc/blob/master/doc/service_config.md.
"""

from __future__ import annotations

import asyncio
import json
import os
import socket
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

import grpc.aio

from gateway.choose import Route
from gateway.rpcs import RPCS, Action
from gateway.upstream import CHANNEL, OF_SERVER, Copy, Endpoints, Line, local_models, tried_again
from mesh.catalog import Catalog, Model, is_loopback
from protos.contract import SEQUENCE_ID, SERVICE

_RETRYABLE: Final = {
    "unavailable": "UNAVAILABLE",
    "reset": "UNAVAILABLE",
    "refused-stream": "UNAVAILABLE",
    "connect-failure": "UNAVAILABLE",
    "resource-exhausted": "RESOURCE_EXHAUSTED",
    "cancelled": "CANCELLED",
}
_RESOLVED_WITHIN: Final = 2.0  # seconds
_MOST_TOKENS: Final = 100  # of retry throttling; half of them spent, and retries pause
_RING_BY_HEADER: Final = "GRPC_EXPERIMENTAL_RING_HASH_SET_REQUEST_HASH_KEY"  # without which gRPC knows no such ring
_POINTS: Final = 128  # of a copy on the ring, however many there are: another one moves no sequence between two others
_RING: Final = 4096  # points at most


@dataclass(frozen=True, slots=True)
class Target:
    """A set of copies that answer alike: where they are, what `:authority` to call them by, and the service config.

    Calls of up to `largest` bytes are tried again.
    """

    addresses: tuple[str, ...]
    authority: str
    service_config: str
    largest: int


class Direct:
    """The workers in direct mode; one channel for each set of copies, opened when first needed."""

    def __init__(self, endpoints: Endpoints) -> None:
        self._endpoints = endpoints
        self._models: dict[str, set[str]] = {}  # by address
        self.local = local_models(endpoints)
        for model, versions in endpoints.items():
            for addresses in versions.values():
                for address in addresses:
                    self._models.setdefault(address, set()).add(model)
        self._lines: dict[Target, Line] = {}
        self._known: dict[tuple[str, str], Line] = {}  # by model and version, for the hot path

    def line(self, route: Route) -> Line:
        """The line to the copies that the route leads to."""
        place = (route.model.name, route.version)
        line = self._known.get(place)
        if line is None:
            model = route.model
            copies = self._addresses(route)
            target = Target(copies, model.host, json.dumps(service_config(model, len(copies))), model.max_request)
            line = self._known[place] = self._lines.get(target) or Line(_open(target))
            self._lines[target] = line
        return line

    async def copies(self, route: Route) -> tuple[Copy, ...]:
        """A copy for each address, and for each that a DNS name gives now."""
        found = await asyncio.gather(*(_resolved(address) for address in self._addresses(route)))
        return tuple(_copy(address, route.model.host) for addresses in found for address in addresses)

    def models_beside(self, route: Route) -> frozenset[str]:
        """Every model that has copies where the route leads."""
        return frozenset[str]().union(*(self._models[address] for address in self._addresses(route)))

    def _addresses(self, route: Route) -> tuple[str, ...]:
        return self._endpoints[route.model.name][route.version]

    async def close(self) -> None:
        """End every channel; calls under way are cancelled."""
        for line in self._lines.values():
            await line.channel.close()


def _open(target: Target) -> grpc.aio.Channel:
    os.environ.setdefault(_RING_BY_HEADER, "true")
    return grpc.aio.insecure_channel(
        target_uri(target.addresses),
        options=(
            *CHANNEL,
            *OF_SERVER,
            ("grpc.default_authority", target.authority),
            ("grpc.service_config", target.service_config),
            tried_again(target.largest),
        ),
    )


def _copy(address: str, authority: str) -> Copy:
    """The copy at an address; its channel is opened for one call, for such calls are rare."""
    options = (
        *CHANNEL,
        *OF_SERVER,
        ("grpc.default_authority", authority),
        ("grpc.enable_retries", 0),
    )
    return Copy(address, address, lambda: grpc.aio.insecure_channel(target_uri((address,)), options=options))


async def _resolved(address: str) -> list[str]:
    """The addresses that it stands for now; itself where it is one, or stands for none."""
    host, _, port = address.rpartition(":")
    if _family(address) != "dns" or is_loopback(host):
        return [address]
    try:
        async with asyncio.timeout(_RESOLVED_WITHIN):
            found = await asyncio.get_running_loop().getaddrinfo(host, int(port), type=socket.SOCK_STREAM)
    except (OSError, TimeoutError):
        return [address]
    # Of a copy that has an address of each family only one is called.
    family = socket.AF_INET if any(one[0] == socket.AF_INET for one in found) else socket.AF_INET6
    names = dict.fromkeys(str(one[4][0]) for one in found if one[0] == family)
    return [f"[{name}]:{port}" if family == socket.AF_INET6 else f"{name}:{port}" for name in names]


def mistakes(catalog: Catalog, endpoints: Endpoints) -> Iterable[tuple[tuple[str, ...], str]]:
    """What gRPC cannot do with these endpoints: (where in the endpoints, what)."""
    for model in catalog.values():
        for version in model.versions:
            addresses = endpoints.get(model.name, {}).get(version, ())
            if not addresses:
                yield (model.name,), f"model {model.name} has no endpoints for version {version}"
            elif len(addresses) > 1 and {_family(address) for address in addresses} not in ({"ipv4"}, {"ipv6"}):
                yield (
                    (model.name, version),
                    "several copies are named by addresses of one family, or by one DNS name that gives them all",
                )


def _family(address: str) -> str:
    host = address.rpartition(":")[0]
    if host.startswith("["):
        return "ipv6"
    return "ipv4" if host.replace(".", "").isdigit() else "dns"


def target_uri(addresses: tuple[str, ...]) -> str:
    """The gRPC name of the copies (https://github.com/grpc/grpc/blob/master/doc/naming.md)."""
    family = _family(addresses[0])
    return f"dns:///{addresses[0]}" if family == "dns" else f"{family}:{','.join(addresses)}"


def service_config(model: Model, copies: int = 1) -> dict[str, object]:
    """The gRPC service config: what an idempotent call's failure is retried for, how often, and who is asked."""
    config: dict[str, object] = {
        "loadBalancingConfig": [_balancing(model, copies)],
        "healthCheckConfig": {"serviceName": ""},
    }
    codes = sorted({_RETRYABLE[on] for on in model.retries.on})
    if model.tries and codes:
        idempotent = [rpc.name for rpc in RPCS.values() if rpc.action is not Action.MANAGE and rpc.way != "stream"]
        config["methodConfig"] = [
            {
                "name": [{"service": SERVICE, "method": name} for name in idempotent],
                "retryPolicy": {
                    "maxAttempts": model.tries + 1,
                    "initialBackoff": "0.025s",
                    "maxBackoff": "0.25s",
                    "backoffMultiplier": 2,
                    "retryableStatusCodes": codes,
                },
            }
        ]
        if model.retries.budget is not None:
            config["retryThrottling"] = {"maxTokens": _MOST_TOKENS, "tokenRatio": model.retries.budget}
    return config


def _balancing(model: Model, copies: int) -> dict[str, object]:
    if not model.sequence:
        return {"round_robin": {}}
    points = min(_POINTS * copies, _RING) if copies > 1 else _RING  # behind one name may be many
    return {"ring_hash_experimental": {"requestHashHeader": SEQUENCE_ID, "minRingSize": points}}
