"""Scalars as protobuf's JSON reads them, with Istio's bounds. Law: a value is exact, or it is refused.

Whole numbers may stand in quotes; a duration is Go's (`250ms`, `1h30m`) and held in nanoseconds.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Annotated, Any, Final

from pydantic import AfterValidator, BeforeValidator, Field, GetCoreSchemaHandler
from pydantic_core import CoreSchema, core_schema

from mesh.istio.names import check_labels

_UNITS: Final = {
    "ns": 1,
    "us": 10**3,
    "µs": 10**3,
    "μs": 10**3,
    "ms": 10**6,
    "s": 10**9,
    "m": 60 * 10**9,
    "h": 3600 * 10**9,
}
_PART: Final = re.compile(r"(\d+\.?\d*|\.\d+)(ns|us|µs|μs|ms|s|m|h)")


@dataclass(frozen=True, order=True, slots=True)
class Duration:
    """A length of time in nanoseconds."""

    nanoseconds: int

    @classmethod
    def parse(cls, value: object) -> Duration:
        """As Go's time.ParseDuration. ValueError for anything else."""
        if isinstance(value, Duration):
            return value
        if not isinstance(value, str):
            raise ValueError("must be a duration with a unit, as in 250ms or 5s")
        sign, rest = (-1, value[1:]) if value.startswith("-") else (1, value.removeprefix("+"))
        parts = _PART.findall(rest)
        if rest != "0" and (not parts or "".join(number + unit for number, unit in parts) != rest):
            raise ValueError(f"{value!r} is no duration, as in 250ms or 5s")
        total = sum(int(Fraction(number.rstrip(".")) * _UNITS[unit]) for number, unit in parts)
        if total >= 2**63:
            raise ValueError(f"{value!r} is too long")
        return cls(sign * total)

    @property
    def seconds(self) -> float:
        """The same in seconds."""
        return self.nanoseconds / 10**9

    @property
    def json(self) -> str:
        """As protobuf's JSON writes it: `5s`, `0.250s`; three, six or nine digits, as few as are exact."""
        whole, fraction = divmod(abs(self.nanoseconds), 10**9)
        digits = f"{fraction:09d}"
        while digits.endswith("000"):
            digits = digits[:-3]
        return f"{'-' if self.nanoseconds < 0 else ''}{whole}{'.' if digits else ''}{digits}s"

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:  # noqa: ANN401 - its
        """How pydantic reads one."""
        return core_schema.no_info_plain_validator_function(cls.parse)


def _at_least_a_millisecond(value: Duration) -> Duration:
    if value.nanoseconds < 10**6:
        raise ValueError(f"{value.json} is shorter than 1ms")
    if value.nanoseconds % 10**6:
        raise ValueError("must be whole milliseconds")
    return value


def _or_off(value: Duration) -> Duration:
    return value if abs(value.nanoseconds) < 10**6 else _at_least_a_millisecond(value)


def _whole(low: int, high: int) -> BeforeValidator:
    def read(value: object) -> int:
        if isinstance(value, str) and re.fullmatch(r"[-+]?\d{1,20}", value):
            value = int(value)
        if isinstance(value, float) and value.is_integer():
            value = int(value)
        if not isinstance(value, int) or isinstance(value, bool):
            raise ValueError("must be a whole number")
        if not low <= value <= high:
            raise ValueError(f"{value} is not in {low}..{high}")
        return value

    return BeforeValidator(read)


def _double(value: object) -> float:
    if isinstance(value, str) and re.fullmatch(r"[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?", value):
        value = float(value)
    if not isinstance(value, int | float) or isinstance(value, bool) or not abs(value) <= sys.float_info.max:
        raise ValueError("must be a number")
    return float(value)


def _between(low: float, high: float) -> Callable[[float], float]:
    def check(value: float) -> float:
        if not low <= value <= high:
            raise ValueError(f"{value:g} is not in {low:g}..{high:g}")
        return value

    return check


def _not_negative(value: int) -> int:
    if value < 0:
        raise ValueError(f"{value} must not be negative")
    return value


def _not_empty(value: str) -> str:
    if not value:
        raise ValueError("must not be empty")
    return value


def _labels(value: Mapping[str, str]) -> Mapping[str, str]:
    check_labels(value)
    return value


PositiveDuration = Annotated[Duration, AfterValidator(_at_least_a_millisecond)]
"""At least 1ms, in whole milliseconds."""
DurationOrOff = Annotated[Duration, AfterValidator(_or_off)]
"""Nothing, or at least 1ms."""

Int32 = Annotated[int, _whole(-(2**31), 2**31 - 1)]
UInt32 = Annotated[int, _whole(0, 2**32 - 1)]
UInt64 = Annotated[int, _whole(0, 2**64 - 1)]
Count = Annotated[Int32, AfterValidator(_not_negative)]
Port = Annotated[int, _whole(1, 65535)]
PercentInt = Annotated[int, _whole(0, 100)]
Double = Annotated[float, BeforeValidator(_double)]
PercentDouble = Annotated[Double, AfterValidator(_between(0, 100))]
Bool = Annotated[bool, Field(strict=True)]
Text = Annotated[str, AfterValidator(_not_empty)]
Labels = Annotated[Mapping[str, str], AfterValidator(_labels)]
"""Kubernetes labels: keys and values checked."""
