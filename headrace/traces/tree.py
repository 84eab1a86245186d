"""Spans in the order in which they are read. Law: parents before their children, and no span is lost.

Whatever ids a sender made up: a span without its parent stands as a root, and so does one of a circle.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from headrace.traces.spans import Span


@dataclass(frozen=True)
class Place:
    """Where a span stands: how deep, and under which other place (-1: none), in the order of reading.

    `orphan`: it names a parent that is not here. `attempt` of `attempts`: which try it is, where there were several.
    """

    span: Span
    depth: int
    under: int
    orphan: bool = False
    attempt: int = 0
    attempts: int = 0


def tree(spans: Sequence[Span]) -> Sequence[Place]:
    """Every span's place; children by their start."""
    ordered = sorted(spans, key=lambda span: (span.start, -span.end))
    first = {span.id: number for number, span in reversed(list(enumerate(ordered)))}
    children: dict[int, list[int]] = {}
    for number, span in enumerate(ordered):
        parent = first.get(span.parent, -1)
        children.setdefault(parent if parent != number else -1, []).append(number)
    seen: set[int] = set()
    found: list[Place] = []
    for root in (*children.get(-1, ()), *range(len(ordered))):  # the rest are of circles
        waiting = [(root, 0, -1)]
        while waiting:
            number, depth, under = waiting.pop()
            if number in seen:
                continue
            seen.add(number)
            span = ordered[number]
            found.append(Place(span, depth, under, orphan=depth == 0 and span.parent != ""))
            waiting.extend((child, depth + 1, len(found) - 1) for child in reversed(children.get(number, ())))
    return found
