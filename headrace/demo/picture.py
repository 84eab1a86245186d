"""Pictures for `docs/traces.md`: `python -m headrace.demo.picture FOLDER`. Law: they show calls that were really made.

The demo's parts are set up as for its tour, and called a few times.
"""

from __future__ import annotations

import asyncio
import contextlib
import io
import re
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import rich.console
from rich.text import Text

from headrace.client import Client
from headrace.demo import stage, tour
from headrace.demo.digits import MODEL
from headrace.demo.issuer import Issuer
from headrace.traces.collector import Collector, collecting
from headrace.traces.listing import listing
from headrace.traces.source import SHORT
from headrace.traces.spans import Span
from headrace.traces.store import Store
from headrace.traces.summary import summary
from headrace.traces.tree import tree
from headrace.traces.waterfall import Waterfall
from mesh.local.binary import find

_COLUMNS: Final = 100
_CALLS: Final = ("canary", "2", "1", "2")  # each beside others, so that there are batches
_LISTED: Final = 14
_WAIT: Final = 10.0  # seconds
_FONTS: Final = re.compile(r"@font-face \{.*?\}\s*", re.DOTALL)  # a picture asks nobody for its fonts


async def _drawn(folder: Path) -> None:
    silent = rich.console.Console(file=io.StringIO())
    async with contextlib.AsyncExitStack() as stack:
        at_work = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="headrace-picture-")))
        collector = await stack.enter_async_context(collecting(Store()))
        issuer = await stack.enter_async_context(Issuer().serving())
        held, versions = await stage.train(silent)
        at = stage.Surroundings(at_work, issuer.url, collector.url)
        copies = await stage.workers(silent, stack, at, versions, 1)
        gateway = await stage.gateway(silent, stack, at, copies, await stage.mesh(silent, stack, at, copies))
        client = await stack.enter_async_context(Client(gateway.address))
        signature = await client.signature(MODEL, token=issuer.token())
        caller = tour.Caller(client, issuer.token(), held, signature)
        async with stage.tracer(collector.url) as tracer:
            called = [await caller.traced(tracer, version) for version in _CALLS]
            await tour.rejections(client, issuer, held.pixels[0], signature)
        await _arrived(collector, called)
        await asyncio.to_thread(_draw, folder, collector.store, called[-1])


async def _arrived(collector: Collector, called: Sequence[str]) -> None:
    """Until all spans are here, which each process sends in batches."""
    store = collector.store

    def whole() -> bool:
        complete = all(len({span.service for span in store.trace(call)}) == 3 for call in called)
        return complete and not any(place.orphan for spans in store.traces() for place in tree(spans))

    await collector.until(whole, bool, _WAIT)


def _draw(folder: Path, store: Store, call: str) -> None:
    last = sorted((summary(spans) for spans in store.traces()), key=lambda one: one.began, reverse=True)
    shown = _console()
    shown.print(Text(f"$ headrace trace --limit {_LISTED}"), listing(last[:_LISTED], shown.options))
    _write(shown, folder / "traces.svg")
    _write(_of_trace(store.trace(call)), folder / "trace.svg")


def _of_trace(spans: Sequence[Span]) -> rich.console.Console:
    shown = _console()
    shown.print(Text(f"$ headrace trace {spans[0].trace[:SHORT]}"), Waterfall(spans))
    return shown


def _console() -> rich.console.Console:
    return rich.console.Console(
        file=io.StringIO(), record=True, width=_COLUMNS, force_terminal=True, color_system="truecolor", highlight=False
    )


def _write(shown: rich.console.Console, file: Path) -> None:
    picture = shown.export_svg(title="headrace", unique_id=f"headrace-{file.stem}")
    lines = _FONTS.sub("", picture).splitlines()
    file.write_text("".join(f"{line.rstrip()}\n" for line in lines), encoding="utf-8")


if __name__ == "__main__":
    find(None)  # raises MeshError: the pictures show a mesh
    asyncio.run(_drawn(Path(sys.argv[1])))
