"""What checks say. Law: what is not well says what to do about it."""

from __future__ import annotations

from collections.abc import AsyncIterable, Callable, Iterable
from dataclasses import dataclass
from typing import Literal

Level = Literal["ok", "warning", "error"]


@dataclass(frozen=True)
class Finding:
    """`what` was found in an `area`, and what to `do` about it."""

    area: str
    level: Level
    what: str
    do: str = ""


Findings = Iterable[Finding] | AsyncIterable[Finding]


@dataclass(frozen=True)
class Check:
    """What looks at one area. A check that blocks gives an ordinary iterable: it is run in a thread of its own."""

    area: str
    look: Callable[[], Findings]
