"""One row for each version of each model. Law: what was asked for stands beside what is.

A version's share is its part of the calls of its model that were answered between two looks, pinned ones included.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from mesh.envoy.proto import Json
from mesh.status.counts import BREAKERS, Copies, Counts, copies, counts, quantile, since
from mesh.status.models import Model, models


@dataclass(frozen=True)
class Look:
    """What an Envoy told at a time (monotonic, in seconds): models, what was counted, and copies, by cluster."""

    at: float
    models: Sequence[Model]
    counts: Mapping[str, Counts]
    copies: Mapping[str, Copies]


@dataclass(frozen=True)
class Row:
    """A version: its weight (percent) and its share (percent; None: no calls), calls a second, statuses by number.

    `p50` and `p99` are milliseconds of single tries. `refused` were turned away by breakers; `open` names those that
    are open now.
    """

    model: str
    version: str
    weight: float
    share: float | None
    rate: float
    statuses: Mapping[int, int]
    p50: float | None
    p99: float | None
    copies: int
    ejected: int
    refused: int
    open: tuple[str, ...]


def look(at: float, tables: Sequence[Json], statistics: Json, clusters: Json) -> Look:
    """A look, from the pages of Envoy's admin interface."""
    return Look(at, models(tables), counts(statistics), copies(clusters))


def rows(before: Look, after: Look) -> tuple[Row, ...]:
    """Every version of every model that Envoy routes for now."""
    seconds = max(after.at - before.at, 1e-9)
    return tuple(row for model in after.models for row in _of_model(model, before, after, seconds))


def _of_model(model: Model, before: Look, after: Look, seconds: float) -> Sequence[Row]:
    none, nobody = Counts(), Copies()
    counted = {
        one.cluster: since(before.counts.get(one.cluster, none), after.counts.get(one.cluster, none))
        for one in model.versions
    }
    calls = sum(one.calls for one in counted.values())
    found = []
    for version in model.versions:
        own, behind = counted[version.cluster], after.copies.get(version.cluster, nobody)
        row = Row(
            model=model.name,
            version=version.name,
            weight=version.weight,
            share=100 * own.calls / calls if calls else None,
            rate=own.calls / seconds,
            statuses=own.statuses,
            p50=quantile(own.latencies, 0.5),
            p99=quantile(own.latencies, 0.99),
            copies=behind.there,
            ejected=behind.ejected,
            refused=own.overflow,
            open=tuple(name for name in BREAKERS if name in own.open),
        )
        found.append(row)
    return found
