"""Headers that a route sets, adds or takes away. Law: what Envoy would refuse as a header is refused here.

Source: Istio's header_value_validator.go (itself after Envoy's header_parser.cc) and validation.go.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Final

from mesh.istio.message import Message, Mistake

HEADER_NAME: Final = re.compile(r"[-_A-Za-z0-9]+")
_CONTROL: Final = re.compile("[\x00-\x08\x0a-\x1f\x7f]")
_VARIABLE: Final = re.compile(r'%%|%[^%(]*(?:\((?: *\[(?: *"(?:[^"\\)]|\\.)*" *,?)* *\] *|(?:[^\\)"]|\\.)*)\) *)?%')


def is_authority(name: str) -> bool:
    """Whether a header is the call's authority, by either of its names."""
    return name.lower() in (":authority", "host")


class HeaderOperations(Message):
    """What is done to the headers of one direction."""

    set: Mapping[str, str] = {}
    add: Mapping[str, str] = {}
    remove: tuple[str, ...] = ()


class Headers(Message):
    """What is done to the headers of a request and of its answer."""

    request: HeaderOperations = HeaderOperations()
    response: HeaderOperations = HeaderOperations()

    def mistakes(self) -> Iterator[Mistake]:
        """Names and values that no header can have; only a request's authority may be set or added."""
        for side, operations in (("request", self.request), ("response", self.response)):
            for verb, pairs in (("set", operations.set), ("add", operations.add)):
                for name, value in pairs.items():
                    place = (side, verb, name)
                    if what := _mistake_in_name(name, authority=side == "request"):
                        yield place, what
                    if what := _mistake_in_value(value):
                        yield place, what
            for index, name in enumerate(operations.remove):
                if what := _mistake_in_name(name, authority=False):
                    yield (side, "remove", index), what

    @property
    def authorities(self) -> tuple[str, ...]:
        """Every value that the request's authority is to get."""
        pairs = (*self.request.set.items(), *self.request.add.items())
        return tuple(value for name, value in pairs if is_authority(name))


def _mistake_in_name(name: str, *, authority: bool) -> str | None:
    if not name:
        return "a header has no name"
    if (name.startswith(":") or name.lower() == "host") and not (authority and is_authority(name)):
        return f"{name} cannot be changed here"
    return None


def _mistake_in_value(value: str) -> str | None:
    if _CONTROL.search(value):
        return "a header's value has no control characters"
    if "%" in _VARIABLE.sub("", value):
        return f"{value!r} has a % that begins no %VARIABLE% (write %% for a percent sign)"
    return None
