"""Addresses of sidecars on the loopback. Law: every sidecar has one of its own, for as long as it is wanted.

All of 127.0.0.0/8 is this machine (RFC 1122, section 3.2.1.3; Linux needs no more). A mesh begins somewhere at random
in a part of it that nothing else uses, so that two meshes on one machine do not meet. That nobody is at an address is
known of sidecars alone, by their admin pages: what stands in for processes (mesh.testing) has a part of its own.
"""

from __future__ import annotations

import itertools
import socket
from collections.abc import Callable, Container, Hashable, Iterator
from ipaddress import IPv4Network
from typing import Final

from mesh.local.failure import MeshError

ADMIN_PORT: Final = 15000
"""Where a sidecar's admin pages are, at its address."""
OUTBOUND_PORT: Final = 15001
"""Where the process can call by its sidecar, at the same address."""

SIDECARS: Final = IPv4Network("127.64.0.0/11")
STAND_INS: Final = IPv4Network("127.96.0.0/11")

_TRIES: Final = 1024
_BLOCK: Final = 256  # addresses


class Addresses:
    """Hands out those of a part. `luck` gives a number in [0, 1); `free` says whether nobody is at an address yet."""

    def __init__(self, part: IPv4Network, luck: Callable[[], float], free: Callable[[str], bool]) -> None:
        self._free = free
        self._given: dict[Hashable, str] = {}
        self._left = _addresses(part, luck())

    def of(self, key: Hashable) -> str:
        """The address of a key: a new one the first time, and then the same. Raises MeshError: none is free."""
        if key not in self._given:
            self._given[key] = self._next()
        return self._given[key]

    def _next(self) -> str:
        for address in itertools.islice(self._left, _TRIES):
            if self._free(address):
                return address
        what = f"no address for a sidecar is free: does a process listen at port {ADMIN_PORT} of every address?"
        raise MeshError(f"{what} (ss -ltnp 'sport = :{ADMIN_PORT}' tells)")

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


def _addresses(part: IPv4Network, luck: float) -> Iterator[str]:
    first = int(luck * (part.num_addresses // _BLOCK)) * _BLOCK
    for number in itertools.count(first):
        if number % _BLOCK not in (0, _BLOCK - 1):
            yield str(part[number % part.num_addresses])
