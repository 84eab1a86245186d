"""Protobuf read by its tags alone. Law: contents of fields are skipped, never decoded, and only `Malformed` is raised.

What is read here is what the worker will read: every top-level field is walked, since the last occurrence of a field
wins; encodings on which parsers disagree (groups, tags over 32 bits, tag or length varints over five bytes) are
malformed. Format: https://protobuf.dev/programming-guides/encoding/.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, NamedTuple

from protos.varint import varint

VARINT: Final = 0
FIXED64: Final = 1
LENGTH: Final = 2
FIXED32: Final = 5
MOST_FIELDS: Final = 4_000  # a few milliseconds of one core
_FIXED: Final = {FIXED64: 8, FIXED32: 4}


class Malformed(Exception):  # noqa: N818 - the word the design uses for it
    """The bytes are no protobuf message that every parser reads alike."""


Field = tuple[int, int, int, int, int]
"""One occurrence of a field: number, wire type, start, value, end.

`body[start:end]` is all of it, `body[value:end]` its value without the length. A plain tuple: it is on the hot path.
"""


class Extent(NamedTuple):
    """Where a field stands: all of it is `body[start:end]`."""

    start: int
    end: int


class Budget:
    """How many fields may still be walked, over all levels of one message: walking is work that the sender chooses."""

    __slots__ = ("left",)

    def __init__(self, left: int = MOST_FIELDS) -> None:
        self.left = left


def fields(body: bytes, start: int = 0, end: int | None = None, budget: Budget | None = None) -> Iterator[Field]:
    """Every field of the message in `body[start:end]`, in order of appearance. Raises Malformed."""
    position = start
    stop = len(body) if end is None else end
    budget = budget or Budget()
    while position < stop:
        budget.left -= 1
        if budget.left < 0:
            raise Malformed(f"more than {MOST_FIELDS} fields")
        begin = position
        tag = body[position]
        position += 1
        if tag > 0x7F:
            tag, position = _varint32(body, begin, stop)
        number, wire_type = tag >> 3, tag & 7
        if number == 0:
            raise Malformed("field number 0")
        if wire_type == LENGTH:
            value = position + 1
            if position < stop and body[position] < 0x80:
                position = value + body[position]
            else:
                length, value = _varint32(body, position, stop)
                position = value + length
        else:
            value = position
            position = _skip(body, position, stop, wire_type)
        if position > stop:
            raise Malformed("a length reaches past the end")
        yield number, wire_type, begin, value, position


def _skip(body: bytes, position: int, stop: int, wire_type: int) -> int:
    """Where the value without a length that starts at `position` ends."""
    if wire_type in _FIXED:
        return position + _FIXED[wire_type]
    if wire_type != VARINT:
        raise Malformed(f"wire type {wire_type}")
    for last in range(position, min(position + 10, stop)):
        if body[last] < 0x80:
            return last + 1
    raise Malformed("a varint without an end")


def _varint32(body: bytes, position: int, stop: int) -> tuple[int, int]:
    """The tag or length at `position`, and where it ends."""
    value = 0
    for shift in range(0, 35, 7):
        if position >= stop:
            raise Malformed("cut short")
        byte = body[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            if value > 0xFFFFFFFF:
                break
            return value, position
    raise Malformed("a tag or length over 32 bits")


def integer(body: bytes, start: int, end: int) -> int:
    """The varint in `body[start:end]`, as `fields` found it, without its sign."""
    value = 0
    for place, byte in enumerate(body[start:end]):
        value |= (byte & 0x7F) << (7 * place)
    return value & 0xFFFFFFFFFFFFFFFF


def string_field(number: int, value: str) -> bytes:
    """A whole string field: tag, length, UTF-8."""
    return bytes_field(number, value.encode())


def bytes_field(number: int, data: bytes) -> bytes:
    """A whole field of bytes or of an embedded message: tag, length, data."""
    return varint(number << 3 | LENGTH) + varint(len(data)) + data


def replace(body: bytes, *changes: tuple[Extent | None, bytes]) -> bytes:
    """The message with fields' bytes exchanged, or, where there were none, with the new ones at the end."""
    view, done = memoryview(body), 0
    parts: list[bytes | memoryview] = []
    for old, new in sorted(((old, new) for old, new in changes if old is not None), key=lambda change: change[0]):
        parts += (view[done : old.start], new)
        done = old.end
    return b"".join((*parts, view[done:], *(new for old, new in changes if old is None)))
