"""Mesh mode: the channels to the sidecar. Law: retries, limits and certificates are the sidecar's; none is added here.

Calls carry the model's host as `:authority`, in plain text.
"""

from __future__ import annotations

import grpc.aio

from gateway.by_host import ByHost
from gateway.upstream import CHANNEL
from mesh.catalog import Catalog


class Sidecar(ByHost):
    """The mesh by its sidecar: at `proxy` (HOST:PORT), or, with None, by calls to hosts that the mesh captures."""

    def __init__(self, catalog: Catalog, proxy: str | None) -> None:
        super().__init__(catalog, lambda host: _dial(proxy or host, host))


def _dial(address: str, authority: str) -> grpc.aio.Channel:
    """A channel without gRPC's own retries, which would come on top of the mesh's."""
    options = (
        *CHANNEL,
        ("grpc.default_authority", authority),
        ("grpc.enable_retries", 0),
        ("grpc.service_config_disable_resolution", 1),
    )
    return grpc.aio.insecure_channel(address, options=options)
