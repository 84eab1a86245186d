"""The express lane against a bare Envoy hop. Law: the same messages, worker and processor; one Envoy worker each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from loadtest import h2load
from loadtest.collector import collecting
from loadtest.contenders import bare_hop, lane
from loadtest.contest import Case, Drive, Effort
from loadtest.findings import Findings, Track, contest
from loadtest.ground import Contender, Ground, ground
from loadtest.h2load import Load, Run
from loadtest.payload import SHAPES, prefixed, request
from loadtest.report import Target, bars
from loadtest.setting import Lane

_TITLE = "the express lane against a bare Envoy hop"
_ENOUGH = 16  # calls at a time to keep a proxy busy
_LOADS = (Load(1, 1), Load(16, 1), Load(4, 10))
_TARGETS = (
    Target("express", "bare hop", "small 16x1", 0.8),
    Target("express, traced", "bare hop", "small 16x1", 0.7),
    Target("express", "bare hop", "large 16x1", 0.95),
)


def measured(effort: Effort, track: Track) -> Findings:
    """The hop, and the lane without and with telemetry. Raises Broken."""
    with ground() as here:
        _, collector = here.stack.enter_context(collecting())
        hop = bare_hop(here)
        plain, _ = lane(here, "express", Lane(express=True))
        uncounted, _ = lane(here, "express, without metrics", Lane(express=True, metrics=False))
        traced, _ = lane(here, "express, traced", Lane(express=True, collector=collector))
        report = contest(_TITLE, [hop, plain, uncounted, traced], cases(here, _LOADS), effort, track, _TARGETS)
    return Findings([report], list(bars(report)))


def cases(ground: Ground, loads: Sequence[Load]) -> Mapping[Case, Drive]:
    """Each size with each load."""
    messages = {name: request(shape) for name, shape in SHAPES.items()}
    return dict(case(ground, f"{name} {load}", message, load) for name, message in messages.items() for load in loads)


def case(ground: Ground, name: str, message: bytes, load: Load) -> tuple[Case, Drive]:
    """One message with one load, by h2load."""
    body = ground.file(name, prefixed(message))

    def drive(contender: Contender, calls: int) -> Run:
        return h2load.run(ground.other_cpus, contender.address, contender.metadata, body, load, calls)

    return Case(name, len(message), load.width, rated=load.width >= _ENOUGH), drive
