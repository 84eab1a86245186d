"""What a caller is told when a sequence fails. Law: in its own name for it, and whether it must begin anew.

A copy that is gone has taken the state along; another one does not know the sequence, and says so in Triton's words.
Nobody can know what became of the call that was under way, so it is not for trying again: ABORTED.
"""

from __future__ import annotations

from typing import Final

import grpc

from gateway.choose import Route
from gateway.in_band import reworded
from protos.errors import HeadraceError, Reason

_UNKNOWN: Final = "must specify the START flag on the first request of the sequence"
_ANEW: Final = "begin anew, under another sequence_id"
_RESET: Final = "RST_STREAM"  # by the worker's sidecar, of a stream whose worker is gone; gRPC calls it INTERNAL


def of_sequence(error: HeadraceError, route: Route) -> HeadraceError:
    """The error of a call as the caller of its sequence reads it."""
    if not route.sequence:
        return error
    gone = error.reason is Reason.MODEL_NOT_READY or (error.reason is Reason.INTERNAL and _RESET in error.private)
    if gone and not route.sequence_start:
        return HeadraceError(
            grpc.StatusCode.ABORTED,
            Reason.SEQUENCE_LOST,
            f"the copy of {route.model.name} that has sequence {route.sequence_called} does not answer: {_ANEW}",
            private=error.private,
        )
    if error.reason is None and route.sequence in error.public:
        reason = Reason.SEQUENCE_LOST if _UNKNOWN in error.public else None
        return HeadraceError(error.status, reason, _renamed(error.public, route), private=error.private)
    return error


def in_stream(answer: bytes, route: Route) -> bytes:
    """The ModelStreamInferResponse as the caller of its sequence reads it."""
    if not route.sequence or answer.find(route.sequence.encode()) < 0:
        return answer
    return reworded(answer, lambda words: _renamed(words, route))


def _renamed(words: str, route: Route) -> str:
    said = words.replace(route.sequence, route.sequence_called)
    return f"{said}; if it has begun, its state is lost: {_ANEW}" if _UNKNOWN in said else said
