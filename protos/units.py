"""How durations, sizes and addresses are written. Law: a number in configuration always carries its unit.

`250ms`, `5s`, `1m`, `2h` are durations (held as float seconds); `64MiB`, `10kB` are sizes (held as int bytes).
"""

from __future__ import annotations

import re
from typing import Annotated

from pydantic import BeforeValidator, PlainSerializer

_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}
_BYTES = {"B": 1, "kB": 1000, "MB": 1000**2, "GB": 1000**3, "KiB": 1024, "MiB": 1024**2, "GiB": 1024**3}
_QUANTITY = re.compile(r"(\d+(?:\.\d+)?)([A-Za-z]+)")


def _quantity(value: object, units: dict[str, float] | dict[str, int], example: str) -> float:
    match = _QUANTITY.fullmatch(value) if isinstance(value, str) else None
    if match is None or match[2] not in units:
        raise ValueError(f"{value!r} needs a unit ({', '.join(units)}), as in {example}")
    return float(match[1]) * units[match[2]]


def seconds(value: object) -> float:
    """`250ms` -> 0.25. ValueError for anything without a unit of time."""
    return _quantity(value, _SECONDS, "250ms or 5s")


def size(value: object) -> int:
    """`64MiB` -> 67108864. ValueError for anything without a unit of size."""
    return int(_quantity(value, _BYTES, "64MiB"))


def address(value: object) -> str:
    """`HOST:PORT`, checked. ValueError for anything else."""
    match = re.fullmatch(r"(\[[0-9a-fA-F:.]+\]|[A-Za-z0-9._-]+):(\d{1,5})", value) if isinstance(value, str) else None
    if match is None or int(match[2]) > 65535:
        raise ValueError(f"{value!r} is no HOST:PORT, as in 127.0.0.1:8080")
    return match[0]


Duration = Annotated[float, BeforeValidator(seconds), PlainSerializer(lambda s: f"{s:g}s", return_type=str)]
Size = Annotated[int, BeforeValidator(size), PlainSerializer(lambda n: f"{n}B", return_type=str)]
Address = Annotated[str, BeforeValidator(address)]
