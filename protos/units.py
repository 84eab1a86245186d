"""How durations, sizes and addresses are written. Law: a number in configuration always carries its unit.

`250ms`, `5s`, `1m`, `2h` are durations (held as float seconds); `64MiB`, `10kB` are sizes (held as int bytes); `200/s`,
`10/m` are rates (held as float per second).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Any, Final

from pydantic import BeforeValidator, PlainSerializer, WithJsonSchema

_SECONDS: Mapping[str, float] = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}
_BYTES: Mapping[str, float] = {
    "B": 1,
    "kB": 1000,
    "MB": 1000**2,
    "GB": 1000**3,
    "KiB": 1024,
    "MiB": 1024**2,
    "GiB": 1024**3,
}
_RATE = re.compile(r"(\d+(?:\.\d+)?)/([smh])")
_QUANTITY = re.compile(r"(\d+(?:\.\d+)?)([A-Za-z]+)")


def _quantity(value: object, units: Mapping[str, float], example: str) -> float:
    match = _QUANTITY.fullmatch(value) if isinstance(value, str) else None
    if match is None:
        raise ValueError(f"{value!r} needs a unit ({', '.join(units)}), as in {example}")
    if match[2] not in units:
        raise ValueError(f"{value!r} has an unknown unit; use one of {', '.join(units)}, as in {example}")
    return float(match[1]) * units[match[2]]


def seconds(value: object) -> float:
    """`250ms` -> 0.25. ValueError for anything without a unit of time."""
    return _quantity(value, _SECONDS, "250ms or 5s")


def size(value: object) -> int:
    """`64MiB` -> 67108864. ValueError for anything without a unit of size."""
    return int(_quantity(value, _BYTES, "64MiB"))


def per_second(value: object) -> float:
    """`200/s` -> 200.0, `30/m` -> 0.5. ValueError for anything that is not so many in a time."""
    match = _RATE.fullmatch(value) if isinstance(value, str) else None
    if match is None or not float(match[1]):
        raise ValueError(f"{value!r} is no rate, as in 200/s, 30/m or 5/h")
    return float(match[1]) / _SECONDS[match[2]]


def address(value: object) -> str:
    """`HOST:PORT`, checked. ValueError for anything else."""
    match = re.fullmatch(r"(\[[0-9a-fA-F:.]+\]|[A-Za-z0-9._-]+):(\d{1,5})", value) if isinstance(value, str) else None
    if match is None:
        raise ValueError(f"{value!r} is not HOST:PORT, as in 127.0.0.1:8080")
    if int(match[2]) > 65535:
        raise ValueError(f"{value!r} has a port over 65535")
    return match[0]


def written(number: float, units: Mapping[str, float]) -> str:
    """The number in the largest unit that leaves it whole, as `5m` for 300 seconds; in the smallest where none does."""
    for unit, worth in sorted(units.items(), key=lambda each: -each[1]):
        if number >= worth and round(number / worth, 9).is_integer():
            return f"{round(number / worth)}{unit}"
    unit, worth = min(units.items(), key=lambda each: each[1])
    return f"{number / worth:g}{unit}"


def written_duration(value: float) -> str:
    """0.25 -> `250ms`."""
    return written(value, _SECONDS)


def written_size(value: float) -> str:
    """67108864 -> `64MiB`."""
    return written(value, _BYTES)


def written_rate(value: float) -> str:
    """0.5 -> `30/m`."""
    for unit in "smh":
        if round(value * _SECONDS[unit], 9).is_integer():
            return f"{round(value * _SECONDS[unit])}/{unit}"
    return f"{value:g}/s"


def _pattern(units: Mapping[str, float], example: str) -> dict[str, Any]:
    return {"type": "string", "pattern": rf"^\d+(\.\d+)?({'|'.join(units)})$", "examples": [example]}


DURATION: Final = _pattern(_SECONDS, "250ms")
SIZE: Final = _pattern(_BYTES, "64MiB")
"""How these are written, as JSON schema."""

Duration = Annotated[
    float,
    BeforeValidator(seconds),
    PlainSerializer(written_duration, return_type=str),
    WithJsonSchema(DURATION, mode="validation"),
]
Size = Annotated[
    int,
    BeforeValidator(size),
    PlainSerializer(written_size, return_type=str),
    WithJsonSchema(SIZE, mode="validation"),
]
PerSecond = Annotated[
    float,
    BeforeValidator(per_second),
    PlainSerializer(written_rate, return_type=str),
    WithJsonSchema({"type": "string", "pattern": r"^\d+(\.\d+)?/[smh]$", "examples": ["200/s"]}, mode="validation"),
]
Address = Annotated[
    str,
    BeforeValidator(address),
    WithJsonSchema({"type": "string", "pattern": r":\d{1,5}$", "examples": ["127.0.0.1:8080"]}, mode="validation"),
]
