"""The lines of the Envoy in front, on their way to the access log. Law: what is written there is whole.

Others append to the same file, so the Envoy does not, but writes into a pipe of ours (`headrace.pipes`).
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from gateway.access_log import appending
from headrace.pipes import taken
from mesh.express.access_log import AccessLog

_MOST: Final = 256  # readings of the pipe that wait


@contextlib.contextmanager
def relayed(log: AccessLog | None, path: Path | None) -> Iterator[None]:
    """While inside, lines that any Envoy writes there are appended to the file at the path."""
    if log is None or path is None:
        yield
        return
    with appending(path, time.monotonic, _MOST) as file, taken(log.path, file.write):
        yield
