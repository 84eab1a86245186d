"""What comes back from a worker. Law: a worker's failure becomes ours here, by one table, and nowhere else.

What a worker says about the request is passed on in its words; what it says about itself stays private, and so does
what the mesh says in its stead (for x-envoy-overloaded, see Envoy's documentation of its router filter).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

import grpc
import grpc.aio

from protos.boundary import DETAILS_KEY
from protos.errors import HeadraceError, Reason, unforeseen

Pairs = Sequence[tuple[str, str | bytes]]

_SHED_FOR: Final = 0.1  # seconds after which a full queue may have drained
_SOONEST: Final = 0.01  # seconds; less is not worth waiting for
_NOT_READY_FOR: Final = 1.0  # seconds after which a copy may have come up
FULL: Final = (  # for which UNAVAILABLE is said
    "exceeds maximum queue size",  # by Triton
    "circuit breaker drop",  # by gRPC's xDS client
)
OUT_OF_TIME: Final = (  # for which UNAVAILABLE is said, too
    "request timeout expired",  # by Triton
    "upstream request timeout",  # by Envoy
)
_OVERLOADED: Final = "x-envoy-overloaded"  # a breaker is open
DENIED: Final = "RBAC: access denied"  # by the worker's sidecar, to us
OF_TOKENS: Final = ("Jwt ", "Jwks ", "Audiences in Jwt ")  # by the same, of a token that we found good
LONGEST: Final = 2000  # characters of a worker's words; callers refuse long trailers
_ABOUT_ITSELF: Final = frozenset(
    {
        grpc.StatusCode.INTERNAL,
        grpc.StatusCode.UNKNOWN,
        grpc.StatusCode.DATA_LOSS,
        grpc.StatusCode.CANCELLED,
    }
)


class Answer(NamedTuple):
    """A worker's answer: its bytes and its metadata, before and after."""

    body: bytes
    initial: Pairs
    trailing: Pairs


def worker_error(error: grpc.aio.AioRpcError, request_id: str) -> HeadraceError:
    """What a caller is told of a worker's failure."""
    said, words = error.code(), (error.details() or "")[:LONGEST]
    if said is grpc.StatusCode.DEADLINE_EXCEEDED or _is_out_of_time(said, words):
        return out_of_time(private=words)
    if said is grpc.StatusCode.RESOURCE_EXHAUSTED or _is_overload(error, words):
        return overloaded(words)
    if said is grpc.StatusCode.UNAVAILABLE:
        return not_ready(words)
    if said in _ABOUT_ITSELF or _is_of_the_mesh(said, words):
        return unforeseen(request_id, f"the worker, or the mesh, says {said.name}: {words}")
    return HeadraceError(said, None, words, details=_details(error))


def _is_out_of_time(said: grpc.StatusCode, words: str) -> bool:
    return said is grpc.StatusCode.UNAVAILABLE and any(each in words.lower() for each in OUT_OF_TIME)


def _is_overload(error: grpc.aio.AioRpcError, words: str) -> bool:
    if error.code() is not grpc.StatusCode.UNAVAILABLE:
        return False
    full = any(each in words.lower() for each in FULL)
    return full or any(key == _OVERLOADED for key, _ in error.trailing_metadata())


def _is_of_the_mesh(said: grpc.StatusCode, words: str) -> bool:
    """Whether the mesh turns us away: by a policy, or it has no route for what we ask (a 404 without a word)."""
    if said is grpc.StatusCode.UNAUTHENTICATED:
        return words.startswith(OF_TOKENS)
    if said is grpc.StatusCode.PERMISSION_DENIED:
        return words == DENIED
    return said is grpc.StatusCode.UNIMPLEMENTED and not words


def out_of_time(private: str = "") -> HeadraceError:
    """The answer when the caller's deadline, or the model's, has passed."""
    return HeadraceError(grpc.StatusCode.DEADLINE_EXCEEDED, Reason.DEADLINE, "time is up", private=private)


def overloaded(private: str = "", after: float = _SHED_FOR) -> HeadraceError:
    """The answer when the model has all the calls that it can take; it may have room `after` so many seconds."""
    return HeadraceError(
        grpc.StatusCode.RESOURCE_EXHAUSTED,
        Reason.OVERLOADED,
        "the model has more work than it can queue; try again later",
        private=private,
        retry_after=max(after, _SOONEST),
    )


def too_large(most: int) -> HeadraceError:
    """The answer to a message that no model takes; nobody has read it to its end."""
    return HeadraceError(
        grpc.StatusCode.RESOURCE_EXHAUSTED,
        Reason.TOO_LARGE,
        f"the request is larger than any model takes; {most} bytes is the most",
    )


def not_ready(private: str = "") -> HeadraceError:
    """The answer when no copy of the model answers."""
    return HeadraceError(
        grpc.StatusCode.UNAVAILABLE,
        Reason.MODEL_NOT_READY,
        "no copy of the model is ready",
        private=private,
        retry_after=_NOT_READY_FOR,
    )


def _details(error: grpc.aio.AioRpcError) -> bytes | None:
    for key, value in error.trailing_metadata():
        if key == DETAILS_KEY and isinstance(value, bytes):
            return value
    return None
