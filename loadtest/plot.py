"""Measurements as pictures. Law: the same figures give the same file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from loadtest.children import Broken

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_ACROSS = 3
_WIDE, _HIGH = 4.5, 3.0  # inches of a panel


@dataclass(frozen=True, slots=True)
class Bars:
    """One value for each name."""

    title: str
    label: str
    values: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Lines:
    """For each name a line of points; both axes are logarithmic."""

    title: str
    across: str
    up: str
    lines: Mapping[str, Sequence[tuple[float, float]]]


Panel = Bars | Lines


def needed() -> None:
    """Raises Broken: what draws is not there."""
    if find_spec("matplotlib") is None:
        raise Broken("there is no matplotlib: pip install 'headrace[bench]' brings it")


def draw(path: Path, panels: Sequence[Panel]) -> None:
    """Write an SVG of them all."""
    from matplotlib import rc_context  # noqa: PLC0415 - a second, and not always there
    from matplotlib.figure import Figure  # noqa: PLC0415

    across = min(_ACROSS, len(panels))
    down = -(-len(panels) // across)
    with rc_context({"svg.hashsalt": "headrace", "svg.fonttype": "none"}):
        figure = Figure(figsize=(_WIDE * across, _HIGH * down), layout="constrained")
        for index, panel in enumerate(panels):
            axes = figure.add_subplot(down, across, index + 1)
            axes.set_title(panel.title)
            if isinstance(panel, Bars):
                _bars(axes, panel)
            else:
                _lines(axes, panel)
        figure.savefig(path, format="svg", metadata={"Date": None})


def _bars(axes: Axes, panel: Bars) -> None:
    drawn = axes.barh(list(panel.values), list(panel.values.values()))
    axes.bar_label(drawn, fmt="%.0f", padding=2)
    axes.margins(x=0.15)
    axes.invert_yaxis()
    axes.set_xlabel(panel.label)


def _lines(axes: Axes, panel: Lines) -> None:
    for name, points in panel.lines.items():
        axes.plot(*zip(*points, strict=True), marker="o", label=name)
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xlabel(panel.across)
    axes.set_ylabel(panel.up)
    axes.legend()
