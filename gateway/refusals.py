"""Which refusals are logged, and how. Law: an outage shows at once, and no caller can fill the log.

What we did not foresee gets a line for each call, with the request id that its caller was told. Everything else gets a
line for each reason and model once in a while; and a few, where the private words begin otherwise, as those of another
caller do: one shall not hide all others.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Final
from zlib import crc32

from protos.boundary import as_error
from protos.complaints import Complaints
from protos.errors import HeadraceError, Reason

log = logging.getLogger("headrace.gateway")

_APART: Final = 8  # lines of one reason and model at a time, at most
_LONGEST: Final = 500  # characters; what a worker or a token says may be long


class Refusals:
    """Turns what went wrong into the error for the caller, and tells the log; `clock` is monotonic, in seconds."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._complaints = Complaints(log, clock)

    def told(self, exception: Exception, request_id: str, model: str = "") -> HeadraceError:
        """The error; `model` is one of the catalog's, or empty."""
        error = as_error(exception, request_id)
        of_model = f" for {model}" if model else ""
        if error.reason is Reason.INTERNAL:
            log.error("request %s%s: %s", request_id or "-", of_model, _line(error.private or str(error)))
            if exception is not error:
                self._complaints.warn(type(exception).__name__, f"request {request_id or '-'}:", exc_info=exception)
        elif error.reason is not None:
            begins = crc32(error.private.partition(" ")[0].encode(errors="replace")) % _APART
            self._complaints.warn((error.reason, model, begins), f"refused{of_model}: {_line(str(error))}")
        return error


def _line(words: str) -> str:
    return " ".join(words.split())[:_LONGEST]
