"""Facts for people. Law: a sentence says what a setting does to a call; numbers have their units."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from mesh.envoy.proto import Json
from mesh.envoy.reading import number, text
from protos.units import written

_MILLISECONDS: Final[Mapping[str, float]] = {"ms": 1, "s": 1000, "m": 60_000, "h": 3_600_000}
_PARTS: Final = {"": 1, "HUNDRED": 1, "TEN_THOUSAND": 100, "MILLION": 10_000}
"""How many of a denominator of envoy.type.v3.FractionalPercent are a percent."""


@dataclass(frozen=True)
class Fact:
    """What something is about, in a word or two, and what it means."""

    about: str
    says: str


def duration(json: str) -> str:
    """`0.250s` -> `250ms`."""
    return written(float(json.removesuffix("s")) * 1000, _MILLISECONDS)


def share(fraction: Json) -> str:
    """A FractionalPercent: `12.5 %`."""
    return f"{number(fraction, 'numerator') / _PARTS[text(fraction, 'denominator')]:g} %"


def listed(words: Iterable[str]) -> str:
    """`a, b and c`."""
    *most, last = words
    return f"{', '.join(most)} and {last}" if most else last
