"""What stands between the gateway and the workers. Law: a route goes in, a line comes out; addresses stay inside.

Three kinds: `gateway.direct` dials the copies itself, `gateway.sidecar` leaves them to the mesh, `gateway.proxyless` to
gRPC's own xDS client.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Final, Protocol

import grpc.aio

from gateway.choose import Route
from mesh.catalog import is_loopback

Endpoints = Mapping[str, Mapping[str, tuple[str, ...]]]
"""model -> version -> addresses of its copies, `HOST:PORT`."""

CHANNEL: Final[Sequence[tuple[str, str | int]]] = (
    ("grpc.max_receive_message_length", -1),
    ("grpc.max_send_message_length", -1),
    ("grpc.use_local_subchannel_pool", 1),
    # Not to ping who has been silent for how much it could send: with many models that is each call.
    ("grpc.http2.bdp_probe", 0),
    ("grpc.http2.lookahead_bytes", 4 * 1024 * 1024),  # of an answer, that a worker may send before we read
    # Workers and sidecars are near: who was away for long is there again for us a second after it is back, not minutes.
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 1_000),
    ("grpc.min_reconnect_backoff_ms", 2_000),  # by its other name: how long connecting may take, of who is busy
    ("grpc.enable_http_proxy", 0),  # the environment's proxy is for the world outside
)
"""What holds for every channel to workers."""

_GONE: Final = ("grpc.keepalive_timeout_ms", 5_000)
OF_SIDECAR: Final[Sequence[tuple[str, str | int]]] = (("grpc.keepalive_time_ms", 20_000), _GONE)
OF_SERVER: Final[Sequence[tuple[str, str | int]]] = (("grpc.keepalive_time_ms", 310_000), _GONE)
"""By what a peer that hangs, or is gone without a word, is noticed while calls run.

gRPC's servers, Triton's among them, take pings more often than every 300 s for abuse while a call is silent, and end it
(gRFC A8).
"""


_HEADERS: Final = 64 * 1024  # bytes


def tried_again(largest: int) -> tuple[str, int]:
    """The option by which gRPC tries calls of up to so many bytes again; its own bound is 256 KiB, headers included."""
    return "grpc.per_rpc_retry_buffer_size", largest + _HEADERS


def local_models(endpoints: Endpoints) -> frozenset[str]:
    """The models all of whose endpoints can only mean this machine."""
    return frozenset(
        model
        for model, versions in endpoints.items()
        if all(is_loopback(address.rpartition(":")[0]) for addresses in versions.values() for address in addresses)
    )


class Line:
    """A channel, for a call while inside; and how many calls it has."""

    __slots__ = ("channel", "running")

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self.channel = channel
        self.running = 0

    def __enter__(self) -> grpc.aio.Channel:
        self.running += 1
        return self.channel

    def __exit__(self, *_raised: object) -> None:
        self.running -= 1


@dataclass(frozen=True, slots=True)
class Copy:
    """One process that serves a version, for calls that every one of them must get.

    `key` is equal where it is the same process; `address` is for our own log; `words` is the metadata by which a mesh
    finds it. Not `alone`: it stands for however many there are, of which the mesh takes one.
    """

    key: Hashable
    address: str
    reach: Callable[[], AbstractAsyncContextManager[grpc.aio.Channel]]
    words: tuple[tuple[str, str], ...] = ()
    alone: bool = True


class Upstream(Protocol):
    """The way to the workers."""

    def line(self, route: Route) -> Line:
        """A line to the copies that the route leads to."""

    @property
    def local(self) -> frozenset[str]:
        """The models all of whose copies are known to be on this machine."""

    async def copies(self, route: Route) -> tuple[Copy, ...]:
        """Every copy of the route's version, ready or not."""

    def models_beside(self, route: Route) -> frozenset[str]:
        """Every model that may have copies where the route leads."""

    async def close(self) -> None:
        """End every channel; calls under way are cancelled."""
