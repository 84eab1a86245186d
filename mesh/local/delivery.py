"""Configuration on its way into an Envoy. Law: nothing is named before it is there, or taken away while it is named.

So a change goes in as addresses, clusters, routes, listeners, and what is no longer needed last, each once Envoy has
taken what came before: it then tells the file's version (`mesh.local.files`). What it refuses, it counts.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from mesh.local.admin import Admin, UnreachableError
from mesh.local.config import Config
from mesh.local.failure import MeshError
from mesh.local.files import CLUSTERS, LISTENERS, ROUTES, File, clusters_file, files, put

_LOOK: Final = 0.01  # seconds between looks at whether a file was taken
_TAKEN: Final = 10.0  # seconds in which it must be
_WARMING: Final = "cluster_manager.warming_clusters"
_REASON: Final = re.compile(r"config update rejected: (.*)")


class NotTakenError(MeshError):
    """Envoy did not take a configuration; the text says why, in its words."""


@dataclass(frozen=True)
class Delivery:
    """The folder whose files an Envoy watches, its admin pages, and its log."""

    folder: Path
    admin: Admin
    log: Path

    def lay_out(self, config: Config) -> None:
        """Write every file, for an Envoy that is not there yet."""
        found = files(config, self.folder)
        for name, file in found.endpoints.items():
            self.put(name, file)
        for name, file in ((CLUSTERS, found.clusters), (ROUTES, found.routes), (LISTENERS, found.listeners)):
            self.put(name, file)

    async def taken(self, config: Config) -> None:
        """Return once a new Envoy has taken what was laid out. Raises NotTakenError; waits for ever for an answer."""
        found = files(config, self.folder)
        await self._until_taken([found.clusters, found.routes, found.listeners], {}, None)

    def put(self, name: str, file: File) -> None:
        """Replace a file; Envoy takes it up when it sees it."""
        put(self.folder / name, file.text)

    async def restore(self, config: Config) -> None:
        """Write every file as it was. Raises NotTakenError."""
        self.lay_out(config)
        found = files(config, self.folder)
        await self._until_taken([found.clusters, found.routes, found.listeners], None, _TAKEN)

    async def change(self, before: Config, after: Config) -> None:
        """Replace what changes, in order, waiting for Envoy at each step. Raises NotTakenError."""
        old, new = files(before, self.folder), files(after, self.folder)
        changed = {name: file for name, file in new.endpoints.items() if old.endpoints.get(name) != file}
        names = {cluster["name"] for cluster in after.clusters}
        gone = [cluster for cluster in before.clusters if cluster["name"] not in names]
        grown = clusters_file([*after.clusters, *gone], self.folder)
        for name in changed.keys() - old.endpoints.keys():
            self.put(name, changed[name])
        await self._step({CLUSTERS: (old.clusters, grown)})
        await self._step({name: (old.endpoints[name], changed[name]) for name in changed.keys() & old.endpoints.keys()})
        await self._step({ROUTES: (old.routes, new.routes)})
        await self._step({LISTENERS: (old.listeners, new.listeners)})
        await self._step({CLUSTERS: (grown, new.clusters)})
        for name in old.endpoints.keys() - new.endpoints.keys():
            (self.folder / name).unlink(missing_ok=True)

    async def calls_running(self) -> bool:
        """Whether calls to the process are under way."""
        try:
            told = await self.admin.statistics_like(r"^cluster\.inbound\|.*\.upstream_rq_active$")
        except UnreachableError:
            return False
        return any(count != "0" for count in told.values())

    async def _step(self, wanted: Mapping[str, tuple[File, File]]) -> None:
        """Replace files by name, old by new, where they differ."""
        changed = {name: new for name, (old, new) in wanted.items() if old.version != new.version}
        if not changed:
            return
        refused = await self._refusals(changed.values())
        for name, file in changed.items():
            self.put(name, file)
        await self._until_taken(changed.values(), refused, _TAKEN)

    async def _until_taken(
        self, wanted: Iterable[File], refused: Mapping[str, str] | None, patience: float | None
    ) -> None:
        """Return once Envoy has taken the files; raise once it has refused more than before (None: do not look)."""
        versions = {file.stat: file.version for file in wanted}
        counts = [_refusals_of(stat) for stat in versions]
        try:
            async with asyncio.timeout(patience):
                while True:
                    told = await self._told([*versions, *counts, _WARMING])
                    if told.get(_WARMING) == "0" and all(told.get(stat) == it for stat, it in versions.items()):
                        return
                    if refused is not None and any(_more(told, refused, count) for count in counts):
                        raise NotTakenError(f"Envoy refuses it: {self._reason()}")
                    await asyncio.sleep(_LOOK)
        except TimeoutError:
            raise NotTakenError(f"Envoy has not taken it within {patience:g} s") from None

    async def _refusals(self, wanted: Iterable[File]) -> Mapping[str, str]:
        return await self._told([_refusals_of(file.stat) for file in wanted])

    async def _told(self, names: Iterable[str]) -> Mapping[str, str]:
        """Statistics; none while Envoy does not answer: another one is then on its way up."""
        try:
            return await self.admin.statistics(names)
        except UnreachableError:
            return {}

    def _reason(self) -> str:
        """Why Envoy refused the last update, as its log has it."""
        said = _REASON.findall(self.log.read_text(encoding="utf-8", errors="replace"))
        return said[-1] if said else f"its log is {self.log}"


def _more(told: Mapping[str, str], before: Mapping[str, str], count: str) -> bool:
    return int(told.get(count, 0)) > int(before.get(count, 0))


def _refusals_of(stat: str) -> str:
    return stat.removesuffix("version_text") + "update_rejected"
