"""The weights that are asked for, `1=80 2=20`. Law: whole percents for each version once, which add up to 100."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

Wanted = Mapping[str, int]
"""Version -> weight; what is not there gets 0. The weights add up to 100."""


def read(words: Iterable[str]) -> Wanted:
    """`["1=80", "2=20"]` -> {"1": 80, "2": 20}. ValueError for anything else."""
    wanted: dict[str, int] = {}
    for word in words:
        version, equals, weight = word.rpartition("=")
        if not equals or not version:
            raise ValueError(f"{word!r} is not VERSION=WEIGHT, as in 2=20")
        if not re.fullmatch(r"[0-9]{1,3}", weight) or int(weight) > 100:
            raise ValueError(f"{weight!r} is no weight for version {version}: it must be a whole number, 0 to 100")
        if version in wanted:
            raise ValueError(f"version {version} is there twice")
        wanted[version] = int(weight)
    if (total := sum(wanted.values())) != 100:
        raise ValueError(f"the weights add up to {total}, not 100")
    return wanted
