"""`python -m tests.interop.pictures` draws the dashboards for the guide: a worker of theirs is gone for a while.

It needs what the interop tests need (tests/interop/tools.sh, on PATH).
"""

from __future__ import annotations

import asyncio
import sys
import tempfile
import time
from pathlib import Path

from headrace.observability import draw
from headrace.observability.dashboards import dashboards
from tests.interop.watched_world import watched
from tests.interop.watching import TIMING, watching
from tests.readme import TOP

BEFORE, GONE, AFTER = 40, 12, 30  # seconds


async def main(folder: Path) -> None:
    with tempfile.TemporaryDirectory(dir="/tmp") as name:  # a short name, for sockets in it
        scratch = Path(name)
        (scratch / "watching").mkdir()
        async with (
            watched(scratch) as world,
            world.load(),
            watching(scratch / "watching", world.targets) as heard,
        ):
            start = time.time()
            await asyncio.sleep(BEFORE)
            await world.workers["2"].stop()
            await asyncio.sleep(GONE)
            await world.workers["2"].start(scratch)
            await asyncio.sleep(AFTER)
            span = (start, time.time())
            for dashboard in dashboards(TIMING):
                told = [await draw.lines(heard.prometheus, panel, span, TIMING.rate) for panel in dashboard.panels]
                if any(told):
                    path = folder / f"{dashboard.uid}.png"
                    draw.draw(path, dashboard, told)
                    sys.stdout.write(f"{path}\n")


if __name__ == "__main__":
    asyncio.run(main(Path(*sys.argv[1:]) if sys.argv[1:] else TOP / "docs" / "pictures"))
