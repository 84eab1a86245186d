"""Where errors become gRPC statuses. Law: nothing outside this module turns an error into a status.

The status's details are a `google.rpc.Status` in `grpc-status-details-bin` (the richer error model), holding
`google.rpc.ErrorInfo` with domain `headrace` and, where waiting helps, `google.rpc.RetryInfo`.
"""

from __future__ import annotations

from typing import Any, NoReturn, Protocol

import grpc
from google.protobuf import any_pb2, duration_pb2
from google.rpc import error_details_pb2, status_pb2

from protos.errors import HeadraceError, unforeseen

DOMAIN = "headrace"
DETAILS_KEY = "grpc-status-details-bin"

Metadata = tuple[tuple[str, str | bytes], ...]


class Abortable(Protocol):
    """As much of `grpc.aio.ServicerContext` as the boundary needs."""

    async def abort(self, code: grpc.StatusCode, details: str = ..., trailing_metadata: Metadata = ...) -> NoReturn:
        """End the call with this status, by raising."""
        ...


async def refuse(context: Abortable, error: HeadraceError, request_id: str = "") -> NoReturn:
    """End the call with the error's status; its private text stays here."""
    await context.abort(error.status, error.public, trailers(error, request_id))


def as_error(exception: BaseException, request_id: str) -> HeadraceError:
    """The error for any exception: itself if it is ours, else INTERNAL, with the exception's words kept private."""
    if isinstance(exception, HeadraceError):
        return exception
    return unforeseen(request_id, f"{type(exception).__name__}: {exception}")


def trailers(error: HeadraceError, request_id: str) -> Metadata:
    """The trailing metadata that carries the error's details; empty where another server gave none."""
    if error.reason is None:
        return ((DETAILS_KEY, error.details),) if error.details else ()
    return ((DETAILS_KEY, _details(error, request_id)),)


def _details(error: HeadraceError, request_id: str) -> bytes:
    info = error_details_pb2.ErrorInfo(reason=error.reason, domain=DOMAIN)
    if request_id:
        info.metadata["request_id"] = request_id
    packed = [_pack(info)]
    if error.retry_after is not None:
        delay = duration_pb2.Duration()
        delay.FromNanoseconds(int(error.retry_after * 1e9))
        packed.append(_pack(error_details_pb2.RetryInfo(retry_delay=delay)))
    code: int = error.status.value[0]
    serialized: bytes = status_pb2.Status(code=code, message=error.public, details=packed).SerializeToString()
    return serialized


def _pack(message: Any) -> any_pb2.Any:  # noqa: ANN401 - google.rpc publishes no types
    packed = any_pb2.Any()
    packed.Pack(message)
    return packed
