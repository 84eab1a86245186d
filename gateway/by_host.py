"""What holds for every way through a mesh. Law: which copy answers is the mesh's to decide; we say for which host.

Copies are told apart by host and labels: their addresses are not ours to know.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping

import grpc.aio

from gateway.choose import Route
from gateway.upstream import Line
from mesh.catalog import Catalog, Model

Place = tuple[str, frozenset[tuple[str, str]]]
"""A model's host, and the labels of a version's copies among those behind it."""


class ByHost:
    """Lines for each host of the catalog; `dial` opens a channel for a host (HOST:PORT).

    A line is opened when all that the host has carry `full` calls; `lines` says how many it may have: without it, one.
    """

    def __init__(
        self,
        catalog: Catalog,
        dial: Callable[[str], grpc.aio.Channel],
        lines: Mapping[str, int] | None = None,
        full: int = 1,
    ) -> None:
        self._dial = dial
        self._most = lines or {}
        self._full = full
        self._places = {
            (model.name, version): _place(model, version) for model in catalog.values() for version in model.versions
        }
        self._lines: defaultdict[str, list[Line]] = defaultdict(list)  # by host

    def line(self, route: Route) -> Line:
        """The first line for the model's host that is not full, or else the one with the fewest calls."""
        host = route.model.host
        lines = self._lines[host]
        for line in lines:
            if line.running < self._full:
                return line
        if len(lines) < self._most.get(host, 1):
            lines.append(Line(self._dial(host)))
            return lines[-1]
        return min(lines, key=lambda line: line.running)

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
        for lines in self._lines.values():
            for line in lines:
                await line.channel.close()


def _place(model: Model, version: str) -> Place:
    return model.host, frozenset(model.versions[version].items())


def _contradict(one: Mapping[str, str], other: Iterable[tuple[str, str]]) -> bool:
    return any(one.get(key, value) != value for key, value in other)
