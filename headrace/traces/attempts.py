"""Tries of one call, told apart. Law: a try follows one that failed; calls that run side by side are no tries.

Tries are siblings of one service, kind and name, each begun after the one before it had ended with an error.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import groupby

from headrace.traces.tree import Place


def numbered(places: Sequence[Place]) -> Sequence[Place]:
    """The places, with the number of the try where there were several."""
    told = list(places)
    for tries in _several(places):
        for number, at in enumerate(tries, 1):
            told[at] = replace(told[at], attempt=number, attempts=len(tries))
    return told


def _several(places: Sequence[Place]) -> Iterator[Sequence[int]]:
    """Where the tries of one call stand, at least two of them."""

    def alike(at: int) -> tuple[int, str, str, str]:
        span = places[at].span
        return places[at].under, span.service, span.kind, span.name

    children = sorted((at for at, place in enumerate(places) if place.under >= 0), key=alike)
    for _, siblings in groupby(children, key=alike):  # by their start, as they stand
        tries: list[int] = []
        for at in siblings:
            if tries and not _follows(places[at], places[tries[-1]]):
                yield from [tries] if len(tries) > 1 else []
                tries = []
            tries.append(at)
        yield from [tries] if len(tries) > 1 else []


def _follows(place: Place, before: Place) -> bool:
    return before.span.error and before.span.end <= place.span.start
