"""Calls, counted. Law: a call is counted once, at its end, under names of the configuration alone."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from gateway.ended import Ended, Observer
from gateway.metrics import CALLS, GATEWAY_DURATION, MESSAGES
from mesh.catalog import Catalog
from protos.contract import PYTHON_LANE
from protos.metrics.instruments import Registry
from protos.metrics.shared import DURATION
from protos.metrics.snapshot import Exemplar

_NANOSECONDS: Final = 1e-9
_BY_ONE_COPY: Final = ("local", "forward")
"""Of other calls, several workers have parts at a time, or nobody while the caller thinks."""


def counting(registry: Registry, catalog: Callable[[], Catalog]) -> Observer:
    """Counts each call; `catalog` has the models in force."""
    calls, durations = registry.counter(CALLS), registry.histogram(DURATION)
    within = registry.histogram(GATEWAY_DURATION)

    def count(ended: Ended) -> None:
        model, asked, served = bounded(catalog(), ended.model, ended.version_asked, ended.version_served)
        method, status = ended.rpc.full_name, ended.status.name
        calls.add(1, method, model, asked, served, ended.grant, PYTHON_LANE, status, ended.reason)
        exemplar = _exemplar(ended)
        durations.record(ended.duration, method, model, served, PYTHON_LANE, status, exemplar=exemplar)
        if ended.rpc.way in _BY_ONE_COPY:
            within.record(max(0.0, ended.duration - ended.upstream), model, PYTHON_LANE)

    return count


def bounded(catalog: Catalog, model: str, asked: str, served: str) -> tuple[str, str, str]:
    """The names where the catalog has them, else empty: a caller, or a worker, may name anything."""
    known = catalog.get(model)
    if known is None:
        return "", "", ""
    asked = asked if asked in known.versions or asked in known.aliases else ""
    return model, asked, served if served in known.versions else ""


def _exemplar(ended: Ended) -> Exemplar | None:
    """The call's trace, where there is one to look at."""
    if not ended.kept:
        return None
    return Exemplar(ended.trace_id, ended.duration, ended.began * _NANOSECONDS + ended.duration)


class Messages:
    """Counts messages of streams."""

    def __init__(self, registry: Registry) -> None:
        self._counter = registry.counter(MESSAGES)

    def received(self, model: str) -> None:
        """One more came for the model; empty where it was refused."""
        self._counter.add(1, model, "received")

    def sent(self, model: str) -> None:
        """One more of the model's went to its caller."""
        self._counter.add(1, model, "sent")
