"""Configuration on its way into an Envoy. Law: nothing is named before it is there, or taken away while it is named.

So a change goes in as clusters, routes, listeners, and what is no longer needed last, each once Envoy has taken what
came before: it then tells the file's version (`mesh.local.files`). What it refuses, it counts.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from mesh.envoy.admin import Admin, UnreachableError
from mesh.local.config import Config
from mesh.local.failure import MeshError, PassingError
from mesh.local.files import CLUSTERS, LISTENERS, ROUTES, File, clusters_file, files, put
from mesh.local.process import last_of

_LOOK: Final = 0.01  # seconds between the first looks at whether a file was taken, and then half as much again
_LONGEST_LOOK: Final = 0.1
_TAKEN: Final = 10.0  # seconds in which it must be
_WARMING: Final = "cluster_manager.warming_clusters"
_REASON: Final = re.compile(r"config update rejected: (.*)")
_TAKEN_PORT: Final = "Address already in use"
_HINT: Final = " (a process that listens at every address listens at its sidecar's, too: let it listen at its entry's)"
_CALLS: Final = r"^http\.(inbound|outbound).*\.downstream_rq_active$"


class NotTakenError(MeshError):
    """Envoy did not take a configuration; the text says why, in its words."""


class NotYetTakenError(NotTakenError, PassingError):
    """Envoy says nothing to a configuration, or refuses it for a reason that may pass."""


@dataclass(frozen=True)
class Delivery:
    """The folder whose files an Envoy watches, its admin pages, and its log. `there` is what was put last, by name."""

    folder: Path
    admin: Admin
    log: Path
    there: dict[str, File] = field(default_factory=dict)

    def put(self, name: str, file: File) -> None:
        """Replace a file; Envoy takes it up when it sees it."""
        put(self.folder / name, file.text)
        self.there[name] = file

    def lay_out(self, config: Config) -> None:
        """Write every file, for an Envoy that is not there yet."""
        found = files(config, self.folder)
        for name, file in ((CLUSTERS, found.clusters), (ROUTES, found.routes), (LISTENERS, found.listeners)):
            self.put(name, file)

    async def taken(self) -> None:
        """Return once a new Envoy has taken what is there. Raises NotTakenError; waits for ever for an answer."""
        await self._until_taken(lambda: [self.there[name] for name in (CLUSTERS, ROUTES, LISTENERS)], {})

    async def change(self, before: Config, after: Config, mark: str | None = None) -> None:
        """Replace what changes, in order, waiting for Envoy at each step. Raises NotTakenError, OSError.

        With a mark, all is replaced: it is not known what Envoy has taken.
        """
        old, new = files(before, self.folder), files(after, self.folder)
        names = {cluster["name"] for cluster in after.clusters}
        gone = [cluster for cluster in before.clusters if cluster["name"] not in names]
        grown = clusters_file([*after.clusters, *gone], self.folder)
        for name, was, now in (
            (CLUSTERS, old.clusters, grown),
            (ROUTES, old.routes, new.routes),
            (LISTENERS, old.listeners, new.listeners),
            (CLUSTERS, grown, new.clusters),
        ):
            if mark is not None:
                await self._replace(name, now.again(mark))
            elif was != now:
                await self._replace(name, now)

    async def restore(self, before: Config, mark: str) -> None:
        """Have all as it was before a change that was not taken, or in part. Raises NotTakenError, OSError.

        Clusters come last: those of both are there now. By the mark each file gets a version that Envoy has not told.
        """
        old = files(before, self.folder)
        for name, file in ((ROUTES, old.routes), (LISTENERS, old.listeners), (CLUSTERS, old.clusters)):
            await self._replace(name, file.again(mark))

    async def answers(self, patience: float) -> bool:
        """Whether the Envoy answers within so many seconds."""
        try:
            async with asyncio.timeout(patience):
                await self.admin.get("ready")
        except (UnreachableError, TimeoutError):
            return False
        return True

    async def calls_running(self) -> bool:
        """Whether calls to the process, or from it, are under way."""
        try:
            told = await self.admin.statistics_like(_CALLS)
        except UnreachableError:
            return False
        return any(count != "0" for count in told.values())

    async def _replace(self, name: str, file: File) -> None:
        try:
            async with asyncio.timeout(_TAKEN):
                refused = await self._told([_refusals_of(file)])
                self.put(name, file)
                await self._until_taken(lambda: [file], refused)
        except TimeoutError:
            raise NotYetTakenError(f"Envoy has not taken it within {_TAKEN:g} s") from None

    async def _until_taken(self, wanted: Callable[[], Iterable[File]], refused: Mapping[str, str]) -> None:
        """Return once Envoy has taken the files; raise once it has refused more than before."""
        pause = _LOOK
        while True:
            versions = {file.stat: file.version for file in wanted()}
            counts = [_refusals_of(file) for file in wanted()]
            told = await self._told([*versions, *counts, _WARMING])
            if told.get(_WARMING) == "0" and all(told.get(stat) == it for stat, it in versions.items()):
                return
            if any(int(told.get(count, 0)) > int(refused.get(count, 0)) for count in counts):
                reason = self._reason()
                kind = NotYetTakenError if _TAKEN_PORT in reason else NotTakenError  # whoever has it may go
                raise kind(f"Envoy refuses it: {reason}")
            await asyncio.sleep(pause)
            pause = min(1.5 * pause, _LONGEST_LOOK)

    async def _told(self, names: Iterable[str]) -> Mapping[str, str]:
        """Statistics; none while Envoy does not answer: another one is then on its way up."""
        try:
            return await self.admin.statistics(names)
        except UnreachableError:
            return {}

    def _reason(self) -> str:
        """Why Envoy refused the last update, as its log has it."""
        said = _REASON.findall(last_of(self.log))
        reason = said[-1] if said else f"its log is {self.log}"
        return reason + _HINT if _TAKEN_PORT in reason else reason


def _refusals_of(file: File) -> str:
    return file.stat.removesuffix("version_text") + "update_rejected"
