"""Draws docs/pictures/top.svg: what `headrace top` shows of the demo that stays, while it is called.

python docs/pictures/top.py [--columns 110] [--interval 2]
"""

from __future__ import annotations

import argparse
import asyncio
import io
import os
import re
from dataclasses import replace
from pathlib import Path

import aiohttp
from rich.console import Console
from rich.terminal_theme import SVG_EXPORT_THEME
from rich.text import Text

from headrace.commands.top import where
from headrace.top.rates import View, view
from headrace.top.shown import shown
from headrace.top.source import Source, behind

PICTURE = Path(__file__).with_name("top.svg")


async def looked(interval: float) -> View:
    """What happens in so many seconds."""
    url, envoys = where(None, [], os.environ)
    async with aiohttp.ClientSession() as session:
        source = Source(session, url, envoys)
        before = await source.seen()
        await asyncio.sleep(interval)
        after = await source.seen()
    made = view(before.gateway, after.gateway, behind(before.envoys, after.envoys))
    return replace(made, silent=after.silent)


def drawn(found: View, columns: int) -> str:
    """The picture, which asks nobody for fonts."""
    console = Console(record=True, width=columns, file=io.StringIO(), force_terminal=True, highlight=False)
    head = Text("headrace top  http://127.0.0.1:9090  12:00:00", "bold")
    console.print(shown(found, head, console.options))
    svg = console.export_svg(title="headrace top", theme=SVG_EXPORT_THEME, unique_id="top")
    return re.sub(r"@font-face \{.*?\}\n\s*", "", svg, flags=re.DOTALL)


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--columns", type=int, default=110)
    parser.add_argument("--interval", type=float, default=2.0)
    asked = parser.parse_args()
    PICTURE.write_text(drawn(asyncio.run(looked(asked.interval)), asked.columns), encoding="utf-8")
