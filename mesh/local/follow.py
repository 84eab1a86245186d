"""A folder, followed. Law: a change counts once the folder has been still, so that nothing half written is read.

Looked at rather than listened to: a few files cost nothing to look at, and every file system can be.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Final

LOOK: Final = 0.1  # seconds between looks; a change counts when two looks in a row see the same

Sight = frozenset[tuple[str, int, int, int]]
"""Name, inode, size and time of the last write (ns) of every file of resources."""


def resources(folder: Path) -> list[Path]:
    """The files of a folder that hold resources, by name."""
    return sorted(path for path in folder.iterdir() if path.suffix in (".yaml", ".yml") and path.is_file())


def look(folder: Path) -> Sight:
    """What can be seen of the files without reading them; nothing while the folder cannot be read."""
    seen = set()
    try:
        for path in resources(folder):
            stat = path.stat()
            seen.add((path.name, stat.st_ino, stat.st_size, stat.st_mtime_ns))
    except OSError:
        return frozenset()
    return frozenset(seen)


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
