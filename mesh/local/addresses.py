"""Addresses of sidecars on the loopback. Law: every sidecar has one of its own, for as long as it is wanted.

All of 127.0.0.0/8 is this machine (RFC 1122, section 3.2.1.3; Linux needs no more). A mesh begins somewhere at random
in a part of it that nothing else uses, so that two meshes on one machine do not meet.
"""

from __future__ import annotations

import itertools
import socket
from collections.abc import Callable, Container, Hashable, Iterator
from ipaddress import IPv4Address
from typing import Final

ADMIN_PORT: Final = 15000
"""Where a sidecar's admin pages are, at its address."""
OUTBOUND_PORT: Final = 15001
"""Where the process can call by its sidecar, at the same address."""

_FIRST: Final = int(IPv4Address("127.64.0.0"))
_BLOCKS: Final = 2**14  # of 256 addresses each


class Addresses:
    """Hands out addresses. `luck` gives a number in [0, 1); `free` says whether nobody is at an address yet."""

    def __init__(self, luck: Callable[[], float], free: Callable[[str], bool]) -> None:
        self._free = free
        self._given: dict[Hashable, str] = {}
        self._left = _addresses(int(luck() * _BLOCKS))

    def of(self, key: Hashable) -> str:
        """The address of a key: a new one the first time, and then the same."""
        if key not in self._given:
            self._given[key] = next(address for address in self._left if self._free(address))
        return self._given[key]

    def keep(self, addresses: Container[str]) -> None:
        """Forget whose address is none of these: who comes back gets a new one, for the old may not be free yet."""
        self._given = {key: address for key, address in self._given.items() if address in addresses}


def is_free(address: str) -> bool:
    """Whether nobody listens at an address as a sidecar does."""
    with socket.socket() as probe:
        try:
            probe.bind((address, ADMIN_PORT))
        except OSError:
            return False
    return True


def _addresses(block: int) -> Iterator[str]:
    for number in itertools.count(block * 256):
        address = _FIRST + number % (_BLOCKS * 256)
        if address % 256 not in (0, 255):
            yield str(IPv4Address(address))
