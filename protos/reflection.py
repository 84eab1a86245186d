"""Server reflection of the contract. Law: every symbol of it is found, methods too.

gRPC's own Python servicer asks protobuf's pool, which does not find files by a method's name; ghz asks by these.
"""

from __future__ import annotations

from typing import cast

import grpc.aio
from google.protobuf import descriptor_pool
from google.protobuf.descriptor import FileDescriptor
from grpc_reflection.v1alpha import reflection


class _Pool:
    """protobuf's default pool, for which methods are symbols, too."""

    def __init__(self) -> None:
        self._pool = descriptor_pool.Default()

    def __getattr__(self, name: str) -> object:
        return getattr(self._pool, name)

    def FindFileContainingSymbol(self, symbol: str) -> FileDescriptor:  # noqa: N802 - protobuf's name
        """The file that declares a message, an enum, a service or a method. Raises KeyError."""
        try:
            return self._pool.FindFileContainingSymbol(symbol)
        except KeyError:
            service, _, method = symbol.rpartition(".")
            return self._pool.FindServiceByName(service).methods_by_name[method].containing_service.file


def enable(server: grpc.aio.Server, *services: str) -> None:
    """Let callers ask what the services, and reflection itself, look like (`grpc.reflection.v1alpha`)."""
    pool = cast("descriptor_pool.DescriptorPool", _Pool())
    reflection.enable_server_reflection((*services, reflection.SERVICE_NAME), server, pool)
