"""A folder, followed. Law: a change counts once the folder has been still, so that nothing half written is read.

Looked at rather than listened to: a few files cost nothing to look at, and every file system can be.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Final

from mesh.istio.load import is_of_resources

LOOK: Final = 0.1  # seconds between looks; a change counts when two looks in a row see the same

Sight = frozenset[tuple[str, int, int, int]]
"""Name, inode, size and time of the last write (ns) of every file of resources."""


def look(folder: Path) -> Sight:
    """What can be seen of the files without reading them; nothing while the folder cannot be read."""
    try:
        with os.scandir(folder) as entries:
            return frozenset(_seen(entry) for entry in entries if is_of_resources(entry.name))
    except OSError:
        return frozenset()


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
