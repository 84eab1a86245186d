"""The demo's child processes. Law: a child is up when it says so, and gone when its block ends, however it ends.

Children write into files, so that none ever waits for us to read. Each has a session of its own: a Ctrl-C on the
terminal reaches us alone, and we stop them in order.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import sys
from collections.abc import AsyncIterator, Coroutine, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeVar

from headrace.failure import CommandError

_POLL: Final = 0.02  # seconds between looks for the ready line
_STOP: Final = 6.0  # seconds a child gets to drain
_HEARSAY: Final = 0.5  # seconds after a failed call in which its cause may show
_LAST_LINES: Final = 12
READY: Final = re.compile(r"^headrace \w+ ready on (\S+)\n", re.MULTILINE)
ADMIN: Final = re.compile(r" admin pages on http://(\S+)\n")
METRICS: Final = re.compile(r" metrics on http://(\S+)/metrics\n")

T = TypeVar("T")


@dataclass(frozen=True)
class Child:
    """A process of ours: what it is called, and where its output goes."""

    name: str
    log: Path
    process: asyncio.subprocess.Process

    async def says(self, pattern: re.Pattern[str], wait: float) -> str:
        """The pattern's group, once its output has it (at most `wait` seconds from now on). Raises CommandError."""
        try:
            async with asyncio.timeout(wait):
                while (match := pattern.search(_output(self.log))) is None:
                    if self.process.returncode is not None:
                        raise died(self.name, self.process.returncode, self.log)
                    await asyncio.sleep(_POLL)
        except TimeoutError:
            raise CommandError(f"the {self.name} was not up within {wait:g} s; {_last_words(self.log)}") from None
        return match[1]

    async def death(self) -> CommandError:
        """What to tell of it, once it has ended by itself."""
        return died(self.name, await self.process.wait(), self.log)


@contextlib.asynccontextmanager
async def running(name: str, arguments: Sequence[str], folder: Path) -> AsyncIterator[Child]:
    """`headrace ARGUMENTS` as a child while inside, its output in `folder`."""
    async with together({name: arguments}, folder) as [child]:
        yield child


@contextlib.asynccontextmanager
async def together(commands: Mapping[str, Sequence[str]], folder: Path) -> AsyncIterator[list[Child]]:
    """Name -> arguments of children that run while inside, and are stopped all at a time."""
    children: list[Child] = []
    try:
        for name, arguments in commands.items():
            children.append(await _start(name, arguments, folder))
        yield children
    finally:
        async with asyncio.TaskGroup() as group:
            for child in children:
                group.create_task(_stop(child.process))


async def _start(name: str, arguments: Sequence[str], folder: Path) -> Child:
    log = folder / f"{name.replace(' ', '-')}.log"
    with log.open("wb") as output:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "headrace",
            *arguments,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            cwd=folder,
            env=environment(os.environ),
            start_new_session=True,
        )
    return Child(name, log, process)


async def unless_death(children: Sequence[Child], work: Coroutine[Any, Any, T]) -> T:
    """The work's result; as soon as a child ends, the work is cancelled and its death raised."""
    task = asyncio.create_task(work)
    deaths = [asyncio.create_task(child.death()) for child in children]
    try:
        await asyncio.wait({task, *deaths}, return_when=asyncio.FIRST_COMPLETED)
        if task.done() and task.exception() is not None:  # perhaps because of a death that we are about to hear of
            await asyncio.wait(deaths, timeout=_HEARSAY, return_when=asyncio.FIRST_COMPLETED)
        for death in deaths:
            if death.done():
                raise death.result()
        return await task
    finally:
        for each in (task, *deaths):
            each.cancel()
        await asyncio.gather(task, *deaths, return_exceptions=True)


def environment(ours: os._Environ[str] | dict[str, str]) -> dict[str, str]:
    """The child's environment: ours, without what would change its settings or its telemetry."""
    kept = {key: value for key, value in ours.items() if not key.startswith(("HEADRACE_", "OTEL_"))}
    return {**kept, "PYTHONUNBUFFERED": "1"}


def died(name: str, code: int, log: Path) -> CommandError:
    """The sentence for a child that ended, with the last of what it wrote."""
    how = f"was killed by signal {-code}" if code < 0 else f"ended with code {code}"
    return CommandError(f"the {name} {how}; {_last_words(log)}")


def _last_words(log: Path) -> str:
    lines = _output(log).splitlines()[-_LAST_LINES:]
    return "\n  ".join(["its last words were:", *lines]) if lines else "it said nothing"


def _output(log: Path) -> str:
    return log.read_text(encoding="utf-8", errors="replace")


async def _stop(process: asyncio.subprocess.Process) -> None:
    """End the child; a cancellation on the way does not leave it behind."""
    if process.returncode is None:
        process.terminate()
    try:
        async with asyncio.timeout(_STOP):
            await process.wait()
    except BaseException as error:
        if process.returncode is None:
            process.kill()
            await process.wait()
        if not isinstance(error, TimeoutError):
            raise
