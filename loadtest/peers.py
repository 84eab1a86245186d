"""Ours against what others would put there. Law: all before one worker, each on one processor, as its makers advise."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from loadtest import contenders
from loadtest.contest import Effort
from loadtest.express import cases
from loadtest.findings import Findings, Track, contest
from loadtest.ground import Contender, Ground, ground
from loadtest.h2load import Load
from loadtest.report import Target, bars
from loadtest.setting import Lane

_TITLE = "ours and others"
_LOADS = (Load(16, 1),)
_TARGETS = (
    Target("express", "field extraction", "small 16x1", 1.4),
    Target("express", "Ray Serve", "small 16x1", 10.0),
)
_NO_RAY = "Ray Serve is left out: name the Python of an environment that has ray[serve] by --ray-python."


def measured(effort: Effort, track: Track, ray_python: Path | None) -> Findings:
    """All of them; Ray Serve only where there is one. Raises Broken."""
    with ground() as here:
        contenders = list(_put_up(here, ray_python))
        report = contest(_TITLE, contenders, cases(here, _LOADS), effort, track, _TARGETS)
    return Findings([report], list(bars(report)), notes=[] if ray_python else [_NO_RAY])


def _put_up(ground: Ground, ray_python: Path | None) -> Iterator[Contender]:
    yield contenders.bare_hop(ground)
    yield contenders.extraction(ground)
    yield contenders.nghttpx(ground)
    yield contenders.python_proxy(ground, "grpc.aio", "loadtest.bare")
    yield contenders.python_proxy(ground, "grpc threads", "loadtest.threads")
    yield contenders.lane(ground, "gateway", Lane(express=False))[0]
    yield contenders.lane(ground, "express", Lane(express=True))[0]
    if ray_python is not None:
        yield contenders.ray_serve(ground, ray_python)
