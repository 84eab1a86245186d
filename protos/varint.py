"""Integers as protobuf writes them.

Source: https://protobuf.dev/programming-guides/encoding/#varints
"""

from __future__ import annotations


def varint(value: int) -> bytes:
    """The shortest encoding of a non-negative integer."""
    encoded = bytearray()
    while value > 0x7F:
        encoded.append(value & 0x7F | 0x80)
        value >>= 7
    encoded.append(value)
    return bytes(encoded)
