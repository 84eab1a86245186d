"""The chain: what docs/audit.md says of it, in as many lines."""

from __future__ import annotations

import hashlib
import json

import pytest

from gateway.audit_chain import BEGINNING, Link, follows, link_of, linked


def chain(*bodies: bytes) -> list[bytes]:
    lines, last = [], BEGINNING
    for body in bodies:
        line, last = linked(body, last)
        lines.append(line)
    return lines


def test_it_can_be_followed_by_anybody() -> None:
    lines, before = chain(b'{"a":"\\u00e9\\","}', b'{"b":2}', b'{"c":{"seq":1,"chain":"x"}}'), "0" * 64
    for number, line in enumerate(lines, start=1):
        told = json.loads(line)
        assert told["seq"] == number
        text = line.rstrip(b"\n")
        assert hashlib.sha256(before.encode() + text[: text.rindex(b',"chain":')]).hexdigest() == told["chain"]
        before = told["chain"]


def test_a_line_follows_one_other() -> None:
    first, second, third = (line[:-1] for line in chain(b'{"a":1}', b'{"a":2}', b'{"a":3}'))
    one, two = link_of(first), link_of(second)
    assert one is not None and two is not None
    assert follows(first, BEGINNING) and follows(second, one) and follows(third, two)
    assert not follows(third, one)
    assert not follows(second, two)
    assert not follows(second.replace(b'"a":2', b'"a":9'), one)
    assert not follows(second, Link(one.seq, "0" * 64))


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"{}",
        b'{"a":1,"seq":1}',
        b'x{"a":1,"seq":1,"chain":"%s"}' % (b"0" * 64),
        b'{"a":1,"seq":0,"chain":"%s"}' % (b"0" * 64),
    ],
)
def test_what_is_no_line(line: bytes) -> None:
    assert link_of(line) is None
