"""What a caller is told of a worker's failure: the whole table."""

from __future__ import annotations

import grpc
import grpc.aio
import pytest

from gateway.answer import out_of_time, worker_error
from protos.boundary import DETAILS_KEY
from protos.errors import HeadraceError, Reason

Code = grpc.StatusCode
PRIVATE = "10.0.0.7:8001 says eyJhbGciOi"


def _error(code: grpc.StatusCode, words: str | None = PRIVATE, *trailing: tuple[str, str | bytes]) -> HeadraceError:
    error = grpc.aio.AioRpcError(code, grpc.aio.Metadata(), grpc.aio.Metadata(*trailing), details=words)
    return worker_error(error, "7f3a")


@pytest.mark.parametrize(
    ("code", "words", "status", "reason", "retry"),
    [
        (Code.DEADLINE_EXCEEDED, PRIVATE, Code.DEADLINE_EXCEEDED, Reason.DEADLINE, None),
        (Code.UNAVAILABLE, "Request timeout expired", Code.DEADLINE_EXCEEDED, Reason.DEADLINE, None),
        (Code.UNAVAILABLE, f"{PRIVATE}: request timeout expired", Code.DEADLINE_EXCEEDED, Reason.DEADLINE, None),
        (Code.UNAVAILABLE, "upstream request timeout", Code.DEADLINE_EXCEEDED, Reason.DEADLINE, None),
        (Code.RESOURCE_EXHAUSTED, PRIVATE, Code.RESOURCE_EXHAUSTED, Reason.OVERLOADED, 0.1),
        (
            Code.UNAVAILABLE,
            "[request id: 1] Exceeds maximum queue size",
            Code.RESOURCE_EXHAUSTED,
            Reason.OVERLOADED,
            0.1,
        ),
        (Code.UNAVAILABLE, "exceeds maximum queue size", Code.RESOURCE_EXHAUSTED, Reason.OVERLOADED, 0.1),
        (Code.UNAVAILABLE, "circuit breaker drop", Code.RESOURCE_EXHAUSTED, Reason.OVERLOADED, 0.1),
        (Code.UNAVAILABLE, PRIVATE, Code.UNAVAILABLE, Reason.MODEL_NOT_READY, 1.0),
        (Code.UNAVAILABLE, "", Code.UNAVAILABLE, Reason.MODEL_NOT_READY, 1.0),
        (Code.UNAVAILABLE, None, Code.UNAVAILABLE, Reason.MODEL_NOT_READY, 1.0),
        (Code.INTERNAL, PRIVATE, Code.INTERNAL, Reason.INTERNAL, None),
        (Code.UNKNOWN, PRIVATE, Code.INTERNAL, Reason.INTERNAL, None),
        (Code.DATA_LOSS, PRIVATE, Code.INTERNAL, Reason.INTERNAL, None),
        (Code.CANCELLED, PRIVATE, Code.INTERNAL, Reason.INTERNAL, None),
        # Only UNAVAILABLE is looked into for Triton's words.
        (Code.INTERNAL, "exceeds maximum queue size", Code.INTERNAL, Reason.INTERNAL, None),
    ],
)
def test_what_a_worker_says_about_itself_becomes_ours(
    code: grpc.StatusCode, words: str | None, status: grpc.StatusCode, reason: Reason, retry: float | None
) -> None:
    error = _error(code, words, (DETAILS_KEY, b"private"))
    assert (error.status, error.reason, error.retry_after, error.details) == (status, reason, retry, None)
    assert not words or words not in error.public
    assert (words or "") in error.private


def test_an_open_breaker_is_overload() -> None:
    error = _error(Code.UNAVAILABLE, PRIVATE, ("x-envoy-overloaded", "true"))
    assert (error.status, error.reason, error.retry_after) == (Code.RESOURCE_EXHAUSTED, Reason.OVERLOADED, 0.1)
    assert _error(Code.INTERNAL, PRIVATE, ("x-envoy-overloaded", "true")).reason is Reason.INTERNAL


@pytest.mark.parametrize(
    ("code", "words", "reason"),
    [
        (Code.PERMISSION_DENIED, "RBAC: access denied", Reason.INTERNAL),
        (Code.PERMISSION_DENIED, "RBAC: access denied to the reading room", None),  # a worker's own words
        (Code.UNAUTHENTICATED, "Jwks doesn't have key to match kid or alg from Jwt", Reason.INTERNAL),
        (Code.UNAUTHENTICATED, "Jwt is expired", Reason.INTERNAL),
        (Code.UNAUTHENTICATED, "Audiences in Jwt are not allowed", Reason.INTERNAL),
        (Code.UNAUTHENTICATED, "Jwtish words of a worker", None),
        (Code.UNIMPLEMENTED, "", Reason.INTERNAL),
        (Code.UNIMPLEMENTED, None, Reason.INTERNAL),
        (Code.UNIMPLEMENTED, "Method not found!", None),
    ],
)
def test_what_the_mesh_says_to_us_is_not_for_the_caller(
    code: grpc.StatusCode, words: str | None, reason: Reason | None
) -> None:
    assert _error(code, words).reason is reason


_ABOUT_THE_REQUEST = [
    Code.INVALID_ARGUMENT,
    Code.NOT_FOUND,
    Code.ALREADY_EXISTS,
    Code.PERMISSION_DENIED,
    Code.FAILED_PRECONDITION,
    Code.ABORTED,
    Code.OUT_OF_RANGE,
    Code.UNIMPLEMENTED,
    Code.UNAUTHENTICATED,
]


@pytest.mark.parametrize("code", _ABOUT_THE_REQUEST)
def test_what_a_worker_says_about_the_request_is_passed_on(code: grpc.StatusCode) -> None:
    error = _error(code, "unexpected shape for input 'x'", ("other-bin", b"x"), (DETAILS_KEY, b"\x08\x03"))
    assert (error.status, error.reason, error.public) == (code, None, "unexpected shape for input 'x'")
    assert (error.details, error.retry_after) == (b"\x08\x03", None)
    # The words alone are no ground to change the status of what is about the request.
    assert _error(code, "exceeds maximum queue size").status is code


@pytest.mark.parametrize("code", [code for code in _ABOUT_THE_REQUEST if code is not Code.UNIMPLEMENTED])
def test_without_words_and_details(code: grpc.StatusCode) -> None:
    error = _error(code, None)
    assert (error.public, error.details) == ("", None)
    assert _error(code, "x", (DETAILS_KEY.removesuffix("-bin"), "text")).details is None


def test_every_status_has_its_row() -> None:
    for code in Code:
        if code is not Code.OK:
            assert _error(code).status is not Code.UNKNOWN
    assert len(_ABOUT_THE_REQUEST) + 7 + 1 == len(Code)  # seven rows of the other table, and OK


def test_the_request_id_leads_to_our_logs() -> None:
    error = _error(Code.INTERNAL)
    assert error.public == "internal error (request 7f3a)"
    assert error.private == f"the worker, or the mesh, says INTERNAL: {PRIVATE}"


def test_out_of_time() -> None:
    error = out_of_time()
    assert (error.status, error.reason, error.private) == (Code.DEADLINE_EXCEEDED, Reason.DEADLINE, "")
