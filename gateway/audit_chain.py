"""The audit's chain. Law: a line's hash follows from its own bytes and the line before, and from no more.

A line is a JSON object that ends in `,"seq":N,"chain":"HASH"}`. N counts lines from 1, through all files. HASH is
SHA-256, as 64 hexadecimal digits, of the digits of the line before and then the line's bytes up to `,"chain":`; before
the first line are 64 zeros. So bytes are compared, and nobody needs to write JSON the same way twice.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from hashlib import sha256
from typing import Final

_END: Final = re.compile(rb',"seq":([1-9][0-9]{0,17}),"chain":"([0-9a-f]{64})"\}\Z')
_LONGEST: Final = len(',"seq":,"chain":""}') + 18 + 64
_CHAIN: Final = len(',"chain":""}') + 64


@dataclass(frozen=True, slots=True)
class Link:
    """Where the chain is: the last line's number, and its hash."""

    seq: int
    chain: str

    def __str__(self) -> str:
        return f"{self.seq}:{self.chain}"


BEGINNING: Final = Link(0, "0" * 64)


def linked(body: bytes, last: Link) -> tuple[bytes, Link]:
    """The line, with its end, that follows with this body: a JSON object with a member at least."""
    told = b'%s,"seq":%d' % (body[:-1], last.seq + 1)
    link = Link(last.seq + 1, _hash(last, told))
    return b'%s,"chain":"%s"}\n' % (told, link.chain.encode()), link


def link_of(line: bytes) -> Link | None:
    """What a line, without its end, says of itself; None where it is no line of an audit."""
    found = _END.search(line, max(0, len(line) - _LONGEST))
    return Link(int(found[1]), found[2].decode()) if found and line.startswith(b"{") else None


def follows(line: bytes, last: Link) -> bool:
    """Whether the line, without its end, is that which was written after `last`."""
    return link_of(line) == Link(last.seq + 1, _hash(last, line[:-_CHAIN]))


def _hash(last: Link, told: bytes) -> str:
    return sha256(last.chain.encode() + told).hexdigest()
