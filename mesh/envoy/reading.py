"""Reading a message of JSON. Law: a field that is not there is proto's default."""

from __future__ import annotations

from collections.abc import Sequence
from math import isfinite

from mesh.envoy.proto import Json


def part(message: Json, *names: str) -> Json:
    """A message inside others; empty, where one of them is not there."""
    for name in names:
        inner = message.get(name)
        message = inner if isinstance(inner, dict) else {}
    return message


def parts(message: Json, name: str) -> Sequence[Json]:
    """A repeated message."""
    found = message.get(name)
    return [one for one in found if isinstance(one, dict)] if isinstance(found, list) else []


def text(message: Json, name: str) -> str:
    """A text, or a duration as it is written."""
    return str(message.get(name, ""))


def number(message: Json, name: str) -> float:
    """A number of whatever kind. Raises ValueError: it is none."""
    found = message.get(name, 0)
    value = float(found) if isinstance(found, int | float | str) else 0.0
    if not isfinite(value):
        raise ValueError(f"{name} is no number")
    return value
