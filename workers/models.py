"""The models that are loaded.

Law: a call gets a version that stays whole until the call is over, whatever is loaded or unloaded meanwhile; a load
that fails changes nothing.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Collection, Coroutine, Iterable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Final, Protocol

from protos.complaints import Complaints
from protos.names import VERSION
from workers import repository
from workers.decoupled import DecoupledVersion
from workers.errors import LoadError, malformed, model_unknown, not_ready, version_unknown
from workers.lane import Lane
from workers.loading import Loaded, load
from workers.model import BatchedVersion, Instance, Version
from workers.python_backend import PythonModel
from workers.stateful import SequenceVersion
from workers.statistics import Counted

log: Final = logging.getLogger("headrace.worker.models")
_UNLOADED: Final = "unloaded"  # the reason of a version that nobody wants, as in Triton


class State(StrEnum):
    """A version's state in the repository's index, in Triton's words."""

    READY = "READY"
    LOADING = "LOADING"
    UNLOADING = "UNLOADING"
    UNAVAILABLE = "UNAVAILABLE"


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the index.

    Version 0 is none: without a state the model was never loaded, with one its folder could not be read.
    """

    name: str
    version: int
    state: State | None
    reason: str


class Changed(Protocol):
    """Who is told of loads and unloads."""

    def __call__(self, name: str, *, serving: bool) -> None:
        """A model was loaded or unloaded."""


class Models:
    """Loads, unloads and finds versions.

    `queue` is the most requests that wait for a version whose configuration does not say; `changed` is told, after
    every load and unload, which model it was and whether it now serves; `counted` of each execution.
    """

    def __init__(self, folder: Path, queue: int, changed: Changed, counted: Counted) -> None:
        self._complaints = Complaints(log, time.monotonic)
        self._folder = folder
        self._queue = queue
        self._changed = changed
        self._counted = counted
        self._reader = Lane("repository")
        self._served: dict[str, dict[int, Version]] = {}
        self._states: dict[str, dict[int, tuple[State, str]]] = {}
        self._locks: dict[str, asyncio.Lock] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    def find(self, name: str, version: str) -> Version:
        """The version that is asked for, the latest where none is. Raises HeadraceError."""
        versions = self._served.get(name)
        if version and VERSION.fullmatch(version) is None:
            raise malformed("model_version must be a positive integer")
        if not versions:
            raise not_ready(name) if name in self._states else model_unknown(name)
        if not version:
            return versions[max(versions)]
        found = versions.get(int(version))
        if found is None:
            raise version_unknown(name, int(version))
        return found

    def ready(self, name: str, version: str) -> bool:
        """Whether the version serves. Raises HeadraceError for one that is not known."""
        if name in self._states and not self._served.get(name):
            return False
        self.find(name, version)
        return True

    def serving(self, name: str = "") -> Iterator[Version]:
        """Every version that serves, of one model or of all."""
        for model in (name,) if name else sorted(self._served):
            yield from (one for _, one in sorted(self._served.get(model, {}).items()))

    def knows(self, name: str) -> bool:
        """Whether the folder has, or had, the model; not one that was never loaded."""
        return name in self._states

    def wanted(self) -> Iterator[tuple[str, int, bool]]:
        """Every version that serves, or ought to and does not, and which of both. Any thread may ask.

        Version 0: the model's folder could not be read.
        """
        for name in sorted(self._states):
            serve = self._served.get(name, {})
            for number, (state, reason) in sorted(self._states[name].items()):
                if number in serve:
                    yield name, number, True
                elif state is not State.UNLOADING and reason != _UNLOADED:
                    yield name, number, False

    async def names(self) -> tuple[str, ...]:
        """The names of the models that the folder holds."""
        return await self._reader.run(repository.names, self._folder)

    async def index(self) -> list[Row]:
        """Every model of the folder, and every version that is or was served."""
        there = await self.names()
        rows: list[Row] = []
        for name in sorted({*there, *self._states}):
            states = self._states.get(name)
            if not states:
                rows.append(Row(name, 0, None, ""))
                continue
            rows.extend(Row(name, number, state, reason) for number, (state, reason) in sorted(states.items()))
        return rows

    async def load(self, name: str) -> None:
        """Read the model's folder anew and serve what it says. Raises LoadError; HeadraceError for no such model.

        Whoever asked for it may go: a load that has begun is brought to its end.
        """
        await asyncio.shield(self._keep(self._load(name)))

    async def _load(self, name: str) -> None:
        if name not in await self.names():
            raise model_unknown(name)
        async with self._locks.setdefault(name, asyncio.Lock()):
            numbers: tuple[int, ...] = ()
            try:
                description = await self._describe(name)
                numbers = description.versions
                self._set(name, numbers, State.LOADING)
                loaded = await load(description)
                versions = {one.number: self._serve(one) for one in loaded}
            except LoadError as error:
                self._failed(name, numbers, error)
                raise
            except Exception as error:
                self._complaints.warn(name, f"model {name} did not load", exc_info=error)
                public = f"model '{name}' cannot be loaded; the worker's log says why"
                failed = LoadError(public, f"{type(error).__name__}: {error}")
                self._failed(name, numbers, failed)
                raise failed from error
            old = self._served.get(name, {})
            self._served[name] = versions
            self._states[name].pop(0, None)
            self._set(name, old.keys(), State.UNLOADING)
            self._set(name, self._served[name], State.READY)
            self._changed(name, serving=True)
            self._retire(old.values())

    async def _describe(self, name: str) -> repository.Description:
        description = await self._reader.run(repository.describe, self._folder, name)
        if description is None:
            raise LoadError(f"model '{name}' has gone from the repository")
        return description

    def _failed(self, name: str, numbers: Collection[int], error: LoadError) -> None:
        """Note the reason in the index; what served still does."""
        serves = self._served.get(name, {})
        self._set(name, numbers or (() if serves else (0,)), State.UNAVAILABLE, error.public)
        self._set(name, serves, State.READY)

    async def unload(self, name: str) -> None:
        """Stop serving the model; running calls finish. Raises HeadraceError for one that is not served."""
        lock = self._locks.get(name)
        if lock is None:
            raise model_unknown(name)
        async with lock:
            old = self._served.pop(name, None)
            if not old:
                raise not_ready(name)
            self._set(name, old, State.UNLOADING)
            self._changed(name, serving=False)
            self._retire(old.values())

    async def close(self) -> None:
        """End every version, now."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for version in self.serving():
            await version.close()
        self._served.clear()
        self._reader.close()

    def _serve(self, one: Loaded) -> Version:
        if one.settings.decoupled:
            turns = [
                Instance(each.backend, each.lane) for each in one.instances if isinstance(each.backend, PythonModel)
            ]
            return DecoupledVersion(one.number, one.config, one.settings, turns, self._queue, self._counted)
        if one.settings.sequences is not None:
            return SequenceVersion(one.number, one.config, one.settings, one.instances, self._queue, self._counted)
        return BatchedVersion(one.number, one.config, one.settings, one.instances, self._queue, self._counted)

    def _set(self, name: str, numbers: Iterable[int], state: State, reason: str = "") -> None:
        self._states.setdefault(name, {}).update(dict.fromkeys(numbers, (state, reason)))

    def _retire(self, versions: Iterable[Version]) -> None:
        for version in versions:
            self._keep(self._end(version))

    def _keep(self, work: Coroutine[None, None, None]) -> asyncio.Task[None]:
        """Work that belongs to no caller."""
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def _end(self, version: Version) -> None:
        try:
            await version.retire()
        except asyncio.CancelledError:
            await version.close()
            raise
        states = self._states[version.name]
        if states[version.number][0] is State.UNLOADING:
            states[version.number] = (State.UNAVAILABLE, _UNLOADED)
