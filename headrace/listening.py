"""Whether an address could be listened at. Law: it is taken for a moment without listening, so that nobody comes in."""

from __future__ import annotations

import socket


def tried(address: str) -> None:
    """Take HOST:PORT, and let go of it. Raises OSError: it is another's, may not be had, or has no number."""
    host, _, port = address.rpartition(":")
    (family, kind, protocol, _, place), *_ = socket.getaddrinfo(
        host.strip("[]"), int(port), type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    )
    with socket.socket(family, kind, protocol) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # what is only closing holds nobody up
        probe.bind(place)
