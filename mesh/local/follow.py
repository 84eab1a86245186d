"""A folder, followed. Law: a change counts once the folder has been still, so that nothing half written is read.

Files of resources are `*.yaml` and `*.yml`, but for hidden ones, in which editors keep their own.

Looked at rather than listened to: a few files cost nothing to look at, and every file system can be.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Final

LOOK: Final = 0.1  # seconds between looks; a change counts when two looks in a row see the same

Sight = frozenset[tuple[str, int, int, int]]
"""Name, inode, size and time of the last write (ns) of every file of resources."""


def resources(folder: Path) -> list[Path]:
    """The files of a folder that hold resources, by name; a link that leads nowhere is one that cannot be read."""
    named = (path for path in folder.iterdir() if _is_named_so(path.name))
    return sorted(path for path in named if path.is_file() or (path.is_symlink() and not path.exists()))


def look(folder: Path) -> Sight:
    """What can be seen of the files without reading them; nothing while the folder cannot be read."""
    try:
        with os.scandir(folder) as entries:
            return frozenset(_seen(entry) for entry in entries if _is_named_so(entry.name))
    except OSError:
        return frozenset()


def _is_named_so(name: str) -> bool:
    return name.endswith((".yaml", ".yml")) and not name.startswith(".")


def _seen(entry: os.DirEntry[str]) -> tuple[str, int, int, int]:
    try:
        stat = entry.stat()
    except OSError:
        return entry.name, 0, 0, 0
    return entry.name, stat.st_ino, stat.st_size, stat.st_mtime_ns


async def changes(folder: Path, seen: Sight, interval: float = LOOK) -> AsyncIterator[Sight]:
    """What is seen, whenever it has become other than `seen` and has stayed so for one interval."""
    before = seen
    while True:
        await asyncio.sleep(interval)
        now = look(folder)
        if now == before and now != seen:
            seen = now
            yield now
        before = now
