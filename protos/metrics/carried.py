"""A snapshot on its way from one process of ours to another. Law: what is read is what was written, or ValueError.

An instrument goes by its name: both sides have the same table.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from protos.metrics.described import Described, Kind
from protos.metrics.snapshot import Distribution, Exemplar, Family, Labels, Snapshot, Value


def written(snapshot: Snapshot) -> bytes:
    """The snapshot as JSON."""
    families = {
        family.described.name: [[list(labels), _plain(value)] for labels, value in family.points.items()]
        for family in snapshot.families
    }
    return json.dumps([snapshot.since, snapshot.at, families]).encode()


def read(text: bytes, described: Mapping[str, Described]) -> Snapshot:
    """What was written. Raises ValueError; an instrument that is not among the described is one of these."""
    try:
        since, at, families = json.loads(text)
        return Snapshot(
            float(since), float(at), tuple(_family(described[name], points) for name, points in families.items())
        )
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise ValueError(f"no snapshot: {error!r}") from None


def _plain(value: Value) -> object:
    if not isinstance(value, Distribution):
        return value
    exemplars = [[place, one.trace_id, one.value, one.at] for place, one in value.exemplars.items()]
    return [list(value.counts), value.sum, value.zeros, list(value.powers.items()), exemplars]


def _family(described: Described, points: Any) -> Family:  # noqa: ANN401 - JSON
    value = _distribution if described.kind is Kind.HISTOGRAM else float
    read: dict[Labels, Value] = {tuple(map(str, labels)): value(plain) for labels, plain in points}
    return Family(described, read)


def _distribution(plain: Any) -> Distribution:  # noqa: ANN401 - JSON
    counts, total, zeros, powers, exemplars = plain
    return Distribution(
        tuple(map(int, counts)),
        float(total),
        int(zeros),
        {int(index): int(count) for index, count in powers},
        {int(place): Exemplar(str(trace), float(value), float(at)) for place, trace, value, at in exemplars},
    )
