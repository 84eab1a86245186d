"""The lines that a log would have had."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator

from protos import of_call
from protos.line import Line


class _Kept(logging.Handler):
    def __init__(self) -> None:
        super().__init__()
        self.lines: list[Line] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(Line.of(record, of_call.now(), "test"))


@contextlib.contextmanager
def kept() -> Iterator[list[Line]]:
    """Those of what is logged while inside."""
    handler = _Kept()
    logging.getLogger().addHandler(handler)
    try:
        yield handler.lines
    finally:
        logging.getLogger().removeHandler(handler)
