"""Looking again and again. Law: a terminal is drawn on until Ctrl-C, and keeps the last picture; others get lines.

On a terminal a gateway that is away is waited for; elsewhere that is an error.
"""

from __future__ import annotations

import asyncio
import json
import os
import time
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from typing import Final

from rich.console import Console, RenderableType
from rich.live import Live
from rich.text import Text

from headrace.failure import CommandError
from headrace.top.rates import View, view
from headrace.top.shown import shown, waiting
from headrace.top.source import AwayError, Seen, Source, behind
from protos import rfc3339

_LINES: Final = 200  # columns where no terminal bounds them


@dataclass(frozen=True, slots=True)
class Asked:
    """Seconds between looks, how many times (None: without end), and of which models (None: of all)."""

    interval: float
    count: int | None
    wanted: Callable[[str], bool] | None


async def draw(source: Source, asked: Asked, console: Console) -> None:
    """On a terminal."""
    last: View | None = None
    with Live(waiting(source.url, "counting"), console=console, auto_refresh=False) as live:
        live.refresh()
        async with aclosing(_views(source, asked)) as views:
            async for found in views:
                live.update(_picture(found, last, source.url, console), refresh=True)
                last = found if isinstance(found, View) else last


def _picture(found: View | AwayError, last: View | None, url: str, console: Console) -> RenderableType:
    if isinstance(found, View):
        return shown(found, _head(url), console.options, console.height - 1)
    why = f"{found}; waiting"
    if last is None:
        return waiting(url, why)
    return shown(last, Text(why, "bold red"), console.options, console.height - 1)


async def lines(source: Source, asked: Asked, console: Console) -> None:
    """As text, as wide as it needs to be where nobody says how wide that is. Raises CommandError."""
    if not console.is_terminal and "COLUMNS" not in os.environ:
        console.width = _LINES
    async with aclosing(_views(source, asked)) as views:
        async for found in views:
            console.print(shown(_there(found), _head(source.url), console.options))


async def as_json(source: Source, asked: Asked, write: Callable[[str], None]) -> None:
    """One object for each look. Raises CommandError."""
    async with aclosing(_views(source, asked)) as views:
        async for found in views:
            write(json.dumps({"time": rfc3339.written(time.time_ns()), "gateway": source.url, **asdict(_there(found))}))


def _head(url: str) -> Text:
    return Text(f"headrace top  {url}  {datetime.now().astimezone():%H:%M:%S}", "bold")


def _there(found: View | AwayError) -> View:
    if isinstance(found, AwayError):
        raise CommandError(f"{found}; --gateway names the admin page of one")
    return found


async def _views(source: Source, asked: Asked) -> AsyncGenerator[View | AwayError, None]:
    """What has happened between each look and the one before, or why there was none."""
    loop = asyncio.get_running_loop()
    before: Seen | None = None
    told, due = 0, loop.time()
    while asked.count is None or told < asked.count:
        due = max(due, loop.time())
        try:
            now = await source.seen()
        except AwayError as error:
            before = None
            yield error
        else:
            if before is not None:
                told += 1
                copies = behind(before.envoys, now.envoys)
                yield replace(view(before.gateway, now.gateway, copies, asked.wanted), silent=now.silent)
            before = now
        due = max(due + asked.interval, loop.time() + asked.interval / 2)  # of less time, rates would be noise
        if asked.count is None or told < asked.count:
            await asyncio.sleep(due - loop.time())
