"""What holds for every way through a mesh. Law: which copy answers is the mesh's to decide; we say for which host.

Copies are told apart by host and labels: their addresses are not ours to know. One copy is named to the mesh by its
number, for which there is a route where the model says how many copies it has (`mesh.render.routes`).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from contextlib import asynccontextmanager

import grpc.aio

from gateway.choose import Route
from gateway.upstream import Copy, Endpoints, Line, local_models
from mesh.catalog import Catalog, Model
from protos.contract import COPY

Place = tuple[str, frozenset[tuple[str, str]]]
"""A model's host, and the labels of a version's copies among those behind it."""


class ByHost:
    """Lines for each host of the catalog; `dial` opens a channel for a host (HOST:PORT).

    A line is opened when all that the host has carry `full` calls; `lines` says how many it may have: without it, one.
    `endpoints` say of some models where their copies are.
    """

    def __init__(
        self,
        catalog: Catalog,
        dial: Callable[[str], grpc.aio.Channel],
        endpoints: Endpoints,
        lines: Mapping[str, int] | None = None,
        full: int = 1,
    ) -> None:
        self.local = frozenset(
            model for model in local_models(endpoints) if catalog[model].versions.keys() <= endpoints[model].keys()
        )
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

    async def copies(self, route: Route) -> tuple[Copy, ...]:
        """Every copy where the model says how many there are; else whichever the mesh takes."""
        host, labels = place = self._places[route.model.name, route.version]
        number = route.model.copies.get(route.version)

        @asynccontextmanager
        async def reach() -> AsyncIterator[grpc.aio.Channel]:
            with self.line(route) as channel:
                yield channel

        at = f"{host} {dict(labels)}"
        if number is None:
            return (Copy(place, at, reach, alone=False),)
        return tuple(Copy((place, index), f"{at} {index}", reach, ((COPY, str(index)),)) for index in range(number))

    def models_beside(self, route: Route) -> frozenset[str]:
        """Every model with copies of the same host that may be the same: whose labels do not contradict."""
        host, labels = self._places[route.model.name, route.version]
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
