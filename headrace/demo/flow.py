"""Calls without end, while something happens to the mesh. Law: no call may fail; one that does ends the demo."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Final

from headrace.client import Answer, Refused
from headrace.failure import CommandError

AT_ONCE: Final = 3  # calls in flight
_PATIENCE: Final = 60.0  # seconds for a few hundred calls, on a loaded machine
_LOOK: Final = 0.02  # seconds between looks at what is waited for


@dataclass(frozen=True)
class Answered:
    """A call: when it began (monotonic, in seconds), how long it took, and the version that answered."""

    began: float
    took: float
    version: str


@dataclass
class Flow:
    """The calls so far."""

    answered: list[Answered] = field(default_factory=list)

    @property
    def slowest(self) -> float:
        """Seconds that the slowest call took."""
        return max(one.took for one in self.answered)

    def since(self, moment: float) -> Sequence[Answered]:
        """Those that began at that moment or later."""
        return [one for one in self.answered if one.began >= moment]

    async def more(self, calls: int) -> Sequence[Answered]:
        """So many more calls that begin from now on."""
        moment = time.monotonic()

        async def enough() -> bool:
            return len(self.since(moment)) >= calls

        await until(enough, f"{calls} calls were not answered", _PATIENCE)
        return self.since(moment)


def share(calls: Sequence[Answered], version: str) -> float:
    """The part of the calls that a version answered."""
    return Counter(one.version for one in calls)[version] / len(calls)


@contextlib.asynccontextmanager
async def flowing(call: Callable[[], Awaitable[Answer]]) -> AsyncIterator[Flow]:
    """Call without end while inside. Raises CommandError, inside as well, as soon as a call fails."""
    flow, over = Flow(), asyncio.Event()

    async def work() -> None:
        while not over.is_set():
            began = time.monotonic()
            answer = await call()
            flow.answered.append(Answered(began, time.monotonic() - began, answer.version))

    try:
        async with asyncio.TaskGroup() as workers:
            for _ in range(AT_ONCE):
                workers.create_task(work())
            yield flow
            over.set()
    except BaseExceptionGroup as failed:
        first = failed.exceptions[0]
        if isinstance(first, Refused):
            raise CommandError(f"a call failed that the mesh should have carried: {first}") from None
        raise first from None


async def until(condition: Callable[[], Awaitable[bool]], what: str, within: float) -> float:
    """Seconds until the condition holds. Raises CommandError: it does not, `within` so many seconds."""
    began = time.monotonic()
    while not await condition():
        if time.monotonic() - began > within:
            raise CommandError(f"{what} within {within:g} s")
        await asyncio.sleep(_LOOK)
    return time.monotonic() - began
