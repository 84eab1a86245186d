"""`python -m headrace.observability.draw URL FOLDER` draws the dashboards of what a Prometheus has seen.

Law: titles, legends and units are those of Grafana's JSON, the numbers Prometheus's; the looks are matplotlib's.
"""

from __future__ import annotations

import argparse
import asyncio
import math
import re
import sys
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Final

import aiohttp

from headrace.observability.dashboards import dashboards
from headrace.observability.panels import Dashboard, Panel, Row, Unit, filled
from headrace.observability.query import Points, Prometheus, QueryError
from headrace.observability.thresholds import Timing

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_COLUMNS: Final = 24
_STEPS: Final = 120  # points of a line
_LONG: Final = 24  # characters of a legend that needs a line of its own
_SCALED: Final[Mapping[Unit, str]] = {"s": "s", "bytes": "B"}
_COUNTED: Final[Mapping[Unit, str]] = {"reqps": "calls/s", "cps": "per second"}
Series = Sequence[tuple[str, Points]]
"""Lines: the legend and the points of each."""


async def lines(server: Prometheus, panel: Panel, span: tuple[float, float], window: str) -> Series:
    """What the panel shows of that time (seconds since the epoch). Raises QueryError."""
    start, end = span
    found = []
    for query in panel.queries:
        answer = await server.over(filled(query.expression, window), start, end, (end - start) / _STEPS)
        found += [(named(query.legend, labels), points) for labels, points in answer]
    return found


def named(legend: str, labels: Mapping[str, str]) -> str:
    """The legend of one series, as Grafana fills it."""
    return re.sub(r"\{\{(\w+)\}\}", lambda match: labels.get(match[1], ""), legend).strip()


def draw(path: Path, dashboard: Dashboard, told: Sequence[Series]) -> None:
    """Write a PNG of the dashboard; `told` has the lines of each panel, in order."""
    from matplotlib.figure import Figure  # noqa: PLC0415 - a second, and not always there

    rows = [_lines(row) for row in dashboard.rows]
    figure = Figure(figsize=(16, sum(3.0 * len(lines) + 0.3 for lines in rows)), layout="constrained", dpi=65)
    figure.suptitle(dashboard.title, fontsize=15)
    rest = iter(told)
    parts = figure.subfigures(len(rows), height_ratios=[len(lines) for lines in rows], squeeze=False)
    for row, lines, (part,) in zip(dashboard.rows, rows, parts, strict=True):
        part.suptitle(row.title, fontsize=12, x=0.01, ha="left", color="#555555")
        grid = part.add_gridspec(len(lines), _COLUMNS)
        for down, panels in enumerate(lines):
            across = 0
            for panel in panels:
                _panel(part.add_subplot(grid[down, across : across + panel.wide]), panel, next(rest))
                across += panel.wide
    figure.savefig(path, metadata={"Software": None})


def _lines(row: Row) -> list[list[Panel]]:
    """The panels of a row, as they wrap."""
    wrapped: list[list[Panel]] = [[]]
    for panel in row.panels:
        if sum(one.wide for one in wrapped[-1]) + panel.wide > _COLUMNS:
            wrapped.append([])
        wrapped[-1].append(panel)
    return wrapped


def _panel(axes: Axes, panel: Panel, told: Series) -> None:
    axes.set_title(panel.title, loc="left", fontsize=10, fontweight="bold")
    if panel.kind == "stat":
        axes.axis("off")
        last = "\n".join(f"{legend}  {points[-1][1]:g}" for legend, points in told)
        axes.text(0.5, 0.5, last, ha="center", va="center", fontsize=16)
        return
    start = min((points[0][0] for _, points in told), default=0.0)
    if panel.stacked:
        _stack(axes, told, start)
    else:
        for legend, points in told:
            whole = _with_gaps(points)
            axes.plot([at - start for at, _ in whole], [value for _, value in whole], label=legend, linewidth=1.2)
    axes.set_ylim(bottom=0, top=1.05 * (panel.most or _greatest(told, stacked=panel.stacked) or 1))
    _units(axes, panel.unit)
    if told:
        across = 1 if max(len(legend) for legend, _ in told) > _LONG else 3
        axes.legend(fontsize=7, loc="upper left", bbox_to_anchor=(0, -0.1), ncols=across, frameon=False)


def _with_gaps(points: Points) -> Points:
    """With no number where Prometheus had none for a while, so that no line is drawn there."""
    step = min((later - at for (at, _), (later, _) in pairwise(points)), default=0.0)
    gaps = [(at + step, math.nan) for (at, _), (later, _) in pairwise(points) if later - at > 1.5 * step]
    return sorted([*points, *gaps])


def _greatest(told: Series, *, stacked: bool) -> float:
    if not stacked:
        return max((value for _, points in told for _, value in points if not math.isnan(value)), default=0.0)
    sums: Counter[float] = Counter()
    for _, points in told:
        sums.update({at: value for at, value in points if not math.isnan(value)})
    return max(sums.values(), default=0.0)


def _stack(axes: Axes, told: Series, start: float) -> None:
    times = sorted({at for _, points in told for at, _ in points})
    known = [dict(points) for _, points in told]
    values = [[points.get(at, 0.0) for at in times] for points in known]
    if values:
        axes.stackplot([at - start for at in times], values, labels=[legend for legend, _ in told], alpha=0.6)


def _units(axes: Axes, unit: Unit) -> None:
    from matplotlib.ticker import EngFormatter, PercentFormatter  # noqa: PLC0415

    if unit == "percentunit":
        axes.yaxis.set_major_formatter(PercentFormatter(1))
    elif unit in _SCALED:
        axes.yaxis.set_major_formatter(EngFormatter(_SCALED[unit]))
    else:
        axes.set_ylabel(_COUNTED.get(unit, ""), fontsize=7)
    axes.xaxis.set_major_formatter(EngFormatter("s"))
    axes.tick_params(labelsize=7)
    axes.grid(alpha=0.3)


async def _all(url: str, folder: Path, seconds: float, window: str, timing: Timing) -> None:
    end = time.time()
    async with aiohttp.ClientSession() as session:
        server = Prometheus(session, url)
        for dashboard in dashboards(timing):
            told = [await lines(server, panel, (end - seconds, end), window) for panel in dashboard.panels]
            if any(told):
                path = folder / f"{dashboard.uid}.png"
                await asyncio.to_thread(draw, path, dashboard, told)
                sys.stdout.write(f"{path}\n")


def main() -> int:
    """Of the last so many seconds."""
    parser = argparse.ArgumentParser(prog="python -m headrace.observability.draw", description=__doc__)
    parser.add_argument("url", help="of Prometheus, as in http://127.0.0.1:9091")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--seconds", type=float, default=3600, help="how far back")
    parser.add_argument("--window", default="1m", help="over which rates are taken: four scrapes at least")
    given = parser.parse_args()
    try:
        asyncio.run(_all(given.url.rstrip("/"), given.folder, given.seconds, given.window, Timing()))
    except QueryError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
