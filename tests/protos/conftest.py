"""Collectors that take nothing."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import closing

import pytest

from tests.gateway.world import unused_address


@pytest.fixture
def black_hole() -> Iterator[str]:
    """A collector that takes connections and says nothing."""
    with closing(socket.create_server(("127.0.0.1", 0))) as listener:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"


@pytest.fixture
def nobody() -> str:
    """A port at which nobody listens."""
    return f"http://{unused_address()}"
