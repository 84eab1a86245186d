"""What holds for every way through a mesh. Law: which copy answers is the mesh's to decide; we say for which host.

Copies are told apart by host and labels: their addresses are not ours to know.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import cycle

import grpc.aio

from gateway.choose import Route
from mesh.catalog import Catalog, Model

Place = tuple[str, frozenset[tuple[str, str]]]
"""A model's host, and the labels of a version's copies among those behind it."""


class ByHost:
    """Channels for each host of the catalog, which take turns; `dial` opens one for a host (HOST:PORT).

    `channels` says how many a host has; without it, one.
    """

    def __init__(
        self, catalog: Catalog, dial: Callable[[str], grpc.aio.Channel], channels: Mapping[str, int] | None = None
    ) -> None:
        self._dial = dial
        self._numbers = channels or {}
        self._places = {
            (model.name, version): _place(model, version) for model in catalog.values() for version in model.versions
        }
        self._channels: list[grpc.aio.Channel] = []
        self._turns: dict[str, Iterator[grpc.aio.Channel]] = {}  # by host

    def channel_of(self, route: Route) -> grpc.aio.Channel:
        """A channel for the model's host."""
        host = route.model.host
        turns = self._turns.get(host)
        if turns is None:
            turns = self._turns[host] = self._opened(host)
        return next(turns)

    def service_of(self, route: Route) -> Place:
        """The host, and the labels of the version's copies."""
        return self._places[route.model.name, route.version]

    def models_beside(self, route: Route) -> frozenset[str]:
        """Every model with copies of the same host that may be the same: whose labels do not contradict."""
        host, labels = self.service_of(route)
        wanted = dict(labels)
        return frozenset(
            model
            for (model, _), (its_host, its_labels) in self._places.items()
            if its_host == host and not _contradict(wanted, its_labels)
        )

    async def close(self) -> None:
        """End every channel; calls under way are cancelled."""
        for channel in self._channels:
            await channel.close()

    def _opened(self, host: str) -> Iterator[grpc.aio.Channel]:
        opened = [self._dial(host) for _ in range(self._numbers.get(host, 1))]
        self._channels += opened
        return cycle(opened)


def _place(model: Model, version: str) -> Place:
    return model.host, frozenset(model.versions[version].items())


def _contradict(one: Mapping[str, str], other: Iterable[tuple[str, str]]) -> bool:
    return any(one.get(key, value) != value for key, value in other)
