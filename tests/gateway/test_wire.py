"""Protobuf's tags: what is walked, what is malformed, what an edit leaves alone."""

from __future__ import annotations

from typing import Any, NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.wire import (
    FIXED32,
    FIXED64,
    LENGTH,
    MOST_FIELDS,
    VARINT,
    Budget,
    Extent,
    Malformed,
    bytes_field,
    fields,
    replace,
    string_field,
)
from protos.varint import varint


class Seen(NamedTuple):
    number: int
    wire_type: int
    start: int
    value: int
    end: int


def _seen(*message: Any, **options: Any) -> list[Seen]:
    return [Seen(*field) for field in fields(*message, **options)]


def _tag(number: int, wire_type: int) -> bytes:
    return varint(number << 3 | wire_type)


def test_every_kind_of_field_is_told_with_its_place() -> None:
    parts = [
        _tag(1, VARINT) + b"\x96\x01",
        _tag(2, FIXED64) + bytes(8),
        _tag(16, LENGTH) + b"\x03abc",
        _tag(3, FIXED32) + bytes(4),
        _tag(2**29 - 1, LENGTH) + b"\x00",
    ]
    body = b"".join(parts)
    found = _seen(body)
    assert [body[field.start : field.end] for field in found] == parts
    assert [(field.number, field.wire_type) for field in found] == [
        (1, VARINT),
        (2, FIXED64),
        (16, LENGTH),
        (3, FIXED32),
        (2**29 - 1, LENGTH),
    ]
    assert body[found[2].value : found[2].end] == b"abc"


def test_a_part_of_the_bytes_is_a_message_of_its_own() -> None:
    inner = string_field(1, "ab") + string_field(2, "c")
    body = b"\xff" + inner + b"\xff"
    assert [field.number for field in _seen(body, 1, len(body) - 1)] == [1, 2]
    with pytest.raises(Malformed):
        (_seen(body))


def test_a_length_stops_at_the_end_of_the_part_not_of_the_bytes() -> None:
    body = b"\x0a\x03abc"
    assert len(_seen(body, 0, 5)) == 1
    with pytest.raises(Malformed, match="past the end"):
        (_seen(body, 0, 4))


@pytest.mark.parametrize(
    ("body", "sound", "what"),
    [
        (b"\x00\x01", b"\x08\x01", "field number 0"),
        (b"\x02\x00", b"\x0a\x00", "field number 0"),
        (b"\x0b\x0c", b"\x0a\x00", "wire type 3"),  # a group
        (b"\x0c", b"\x08\x00", "wire type 4"),  # the end of one
        (b"\x0e\x00", b"\x0a\x00", "wire type 6"),
        (b"\x0f\x00", b"\x0a\x00", "wire type 7"),
        (b"\x0a", b"\x0a\x00", "cut short"),
        (b"\x8a", b"\x8a\x00\x00", "cut short"),
        (b"\x0a\x80", b"\x0a\x80\x00", "cut short"),
        (b"\x0a\x04abc", b"\x0a\x03abc", "past the end"),
        (b"\x0d\x00\x00\x00", b"\x0d\x00\x00\x00\x00", "past the end"),
        (b"\x09" + bytes(7), b"\x09" + bytes(8), "past the end"),
        (b"\x08", b"\x08\x00", "a varint without an end"),
        (b"\x08\x80", b"\x08\x80\x00", "a varint without an end"),
        (b"\x08" + b"\x80" * 10 + b"\x00", b"\x08" + b"\x80" * 9 + b"\x01", "a varint without an end"),
        (b"\x8a\x80\x80\x80\x80\x00\x00", b"\x8a\x80\x80\x80\x00\x00", "over 32 bits"),
        (b"\x0a\x80\x80\x80\x80\x80\x00", b"\x0a\x80\x80\x80\x80\x00", "over 32 bits"),
        (b"\x8a\x80\x80\x80\x10\x00", b"\xfa\xff\xff\xff\x0f\x00", "over 32 bits"),
        (b"\x0a\xff\xff\xff\xff\x1f", b"\x0a\x01a", "over 32 bits"),
        (b"\x0a\xff\xff\xff\xff\x0f", b"\x0a\x01a", "past the end"),
    ],
)
def test_what_parsers_read_differently_is_malformed(body: bytes, sound: bytes, what: str) -> None:
    with pytest.raises(Malformed, match=what):
        (_seen(body))
    assert len(_seen(sound)) == 1


def test_a_budget_is_spent_field_by_field_and_shared() -> None:
    body = string_field(1, "a") * 3
    budget = Budget(5)
    assert len(_seen(body, budget=budget)) == 3
    assert budget.left == 2
    with pytest.raises(Malformed, match="fields"):
        (_seen(body, budget=budget))


def test_without_a_budget_each_message_has_its_own() -> None:
    assert len(_seen(b"\x08\x00" * MOST_FIELDS)) == MOST_FIELDS
    with pytest.raises(Malformed, match="fields"):
        (_seen(b"\x08\x00" * (MOST_FIELDS + 1)))


@given(st.binary(max_size=64))
def test_nothing_but_malformed_is_raised_and_fields_cover_all(body: bytes) -> None:
    try:
        found = _seen(body)
    except Malformed:
        return
    assert b"".join(body[field.start : field.end] for field in found) == body


@given(st.integers(0, 2**64 - 1))
def test_varints_are_the_shortest_encoding(value: int) -> None:
    encoded = varint(value)
    assert sum((byte & 0x7F) << 7 * place for place, byte in enumerate(encoded)) == value
    assert len(encoded) == max(1, -(-value.bit_length() // 7))
    assert all(byte > 0x7F for byte in encoded[:-1])
    assert encoded[-1] < 0x80


@given(st.integers(1, 2**29 - 1), st.binary(max_size=300))
def test_a_written_field_is_read_back(number: int, data: bytes) -> None:
    body = bytes_field(number, data)
    (field,) = _seen(body)
    assert (field.number, field.wire_type, body[field.value : field.end]) == (number, LENGTH, data)


def test_a_string_is_written_as_utf8() -> None:
    assert string_field(2, "é") == b"\x12\x02\xc3\xa9"


_FIELD = st.builds(bytes_field, st.integers(1, 2**29 - 1), st.binary(max_size=200))


@settings(max_examples=200)
@given(st.lists(_FIELD, min_size=1, max_size=8), st.data(), st.binary(max_size=20))
def test_replacing_one_field_leaves_every_other_byte(parts: list[bytes], data: st.DataObject, new: bytes) -> None:
    body = b"".join(parts)
    place = data.draw(st.integers(0, len(parts) - 1))
    old = _seen(body)[place]
    assert replace(body, (Extent(old.start, old.end), new)) == b"".join([*parts[:place], new, *parts[place + 1 :]])
    assert replace(body, (None, new)) == body + new


@settings(max_examples=200)
@given(st.lists(_FIELD, min_size=2, max_size=8, unique=True), st.data(), st.lists(_FIELD, min_size=3, max_size=3))
def test_several_fields_are_replaced_at_once(parts: list[bytes], data: st.DataObject, new: list[bytes]) -> None:
    body = b"".join(parts)
    places = data.draw(st.lists(st.sampled_from(range(len(parts))), min_size=2, max_size=2, unique=True))
    seen = _seen(body)
    changes = [(Extent(seen[place].start, seen[place].end), by) for place, by in zip(places, new, strict=False)]
    expected = list(parts)
    for place, by in zip(places, new, strict=False):
        expected[place] = by
    assert replace(body, *changes, (None, new[2])) == b"".join([*expected, new[2]])
