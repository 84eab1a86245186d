"""Several gateway processes behind one door. Law: how many calls they bear is how many the busiest of them bears.

So it can be told on few processors, where caller, worker and Envoy leave none free: the calls are for Python alone, and
what the busiest process took for each is compared.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from loadtest import contenders
from loadtest.contest import Effort
from loadtest.express import case
from loadtest.findings import Track, contest
from loadtest.ground import Contender, Ground, ground
from loadtest.h2load import Load
from loadtest.payload import SHAPES, request, with_parameter
from loadtest.report import Report, Target
from loadtest.setting import Lane

_LOAD = Load(16, 2)
_TITLE = "gateway processes: processor time of the busiest"
_GAINED = 1.7  # by the second


def several(counts: Sequence[int], effort: Effort, track: Track) -> Report:
    """One process, and so many. Raises Broken."""
    with ground() as here:
        made = {count: _made(here, count) for count in counts}
        told, drive = case(here, "calls of Python's", with_parameter(request(SHAPES["small"])), _LOAD)
        targets = [Target(made[2].name, made[1].name, told.name, _GAINED)]
        return contest(_TITLE, list(made.values()), {replace(told, rated=False): drive}, effort, track, targets)


def _made(ground: Ground, count: int) -> Contender:
    lane, _ = contenders.lane(ground, str(count), Lane(express=True, processes=count))
    return replace(lane, front=(), busiest=True)
