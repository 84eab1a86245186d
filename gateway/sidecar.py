"""Mesh mode: the channels to the sidecar. Law: retries, limits and certificates are the sidecar's; none is added here.

Calls carry the model's host as `:authority`, in plain text. An Envoy takes 1024 calls of one connection at a time, and
gRPC lets the others wait: so there may be as many connections to it as the models' breakers allow calls, or they would
never open. https://www.envoyproxy.io/docs/envoy/latest/api-v3/config/core/v3/protocol.proto, max_concurrent_streams.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from math import ceil
from typing import Final

import grpc.aio

from gateway.by_host import ByHost
from gateway.upstream import CHANNEL, OF_SIDECAR, Endpoints
from mesh.catalog import Catalog

_CALLS: Final = 1000  # that one connection is to carry
_MOST: Final = 16  # connections for one host, more than a gateway can fill


class Sidecar(ByHost):
    """The mesh by its sidecar: at `proxy` (HOST:PORT), or, with None, by calls to hosts that the mesh captures."""

    def __init__(self, catalog: Catalog, proxy: str | None, endpoints: Endpoints) -> None:
        super().__init__(catalog, lambda host: _dial(proxy or host, host), endpoints, connections(catalog), _CALLS)


def connections(catalog: Catalog) -> Mapping[str, int]:
    """How many connections to the sidecar each host's calls need at most."""
    calls = Counter[str]()
    for model in catalog.values():
        calls[model.host] += model.breaker.requests * len(model.versions)
    return {host: min(ceil(most / _CALLS), _MOST) for host, most in calls.items()}


def _dial(address: str, authority: str) -> grpc.aio.Channel:
    """A channel without gRPC's own retries, which would come on top of the mesh's."""
    options = (
        *CHANNEL,
        *OF_SIDECAR,
        ("grpc.default_authority", authority),
        ("grpc.enable_retries", 0),
        ("grpc.service_config_disable_resolution", 1),
    )
    return grpc.aio.insecure_channel(address, options=options)
