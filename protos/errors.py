"""What goes wrong, as a value. Law: every error this project raises on purpose for a caller is a `HeadraceError`.

An error carries a public text, which callers may read, and a private one, which only our logs and traces see.
`protos.boundary` alone turns errors into gRPC statuses.
"""

from __future__ import annotations

from enum import StrEnum

import grpc


class Reason(StrEnum):
    """`google.rpc.ErrorInfo.reason` of what headrace itself refuses (domain `headrace`)."""

    TOKEN_MISSING = "TOKEN_MISSING"  # noqa: S105 - a reason's name, no secret
    TOKEN_INVALID = "TOKEN_INVALID"  # noqa: S105 - a reason's name, no secret
    TOKEN_EXPIRED = "TOKEN_EXPIRED"  # noqa: S105 - a reason's name, no secret
    KEYS_UNAVAILABLE = "KEYS_UNAVAILABLE"
    NOT_GRANTED = "NOT_GRANTED"
    MODEL_UNKNOWN = "MODEL_UNKNOWN"
    VERSION_UNKNOWN = "VERSION_UNKNOWN"
    MODEL_NOT_READY = "MODEL_NOT_READY"
    COPIES_UNKNOWN = "COPIES_UNKNOWN"
    REQUEST_MALFORMED = "REQUEST_MALFORMED"
    SHARED_MEMORY_REFUSED = "SHARED_MEMORY_REFUSED"
    RATE_LIMITED = "RATE_LIMITED"
    SEQUENCE_LOST = "SEQUENCE_LOST"
    OVERLOADED = "OVERLOADED"
    TOO_LARGE = "TOO_LARGE"
    DRAINING = "DRAINING"
    AUDIT_UNAVAILABLE = "AUDIT_UNAVAILABLE"
    DEADLINE = "DEADLINE"
    INTERNAL = "INTERNAL"


class HeadraceError(Exception):
    """An outcome that is not the answer.

    `status` and `reason` say what kind, `public` what the caller may read, `private` what only we may (addresses,
    exception texts). `retry_after` (seconds) is set where waiting helps. `reason` is None where the words are another
    server's, passed on; `details` are then its `google.rpc.Status` bytes, if it sent any.
    """

    def __init__(
        self,
        status: grpc.StatusCode,
        reason: Reason | None,
        public: str,
        *,
        private: str = "",
        retry_after: float | None = None,
        details: bytes | None = None,
    ) -> None:
        super().__init__(f"{status.name} {reason or '-'}: {public}" + (f" ({private})" if private else ""))
        self.status = status
        self.reason = reason
        self.public = public
        self.private = private
        self.retry_after = retry_after
        self.details = details


def unforeseen(request_id: str, private: str) -> HeadraceError:
    """What a caller gets for anything we did not expect: nothing but the id under which our logs tell more."""
    public = f"internal error (request {request_id})" if request_id else "internal error"
    return HeadraceError(grpc.StatusCode.INTERNAL, Reason.INTERNAL, public, private=private)
