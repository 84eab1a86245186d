"""The boundary, as a caller of a real server sees it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import grpc
import grpc.aio
import pytest
from google.rpc import error_details_pb2, status_pb2
from grpc_status.rpc_status import aio as rpc_status

from protos.boundary import DETAILS_KEY, as_error, refuse, trailers
from protos.errors import HeadraceError, Reason

PRIVATE = "10.0.0.7:8001 eyJhbGciOi"
Handler = Callable[[bytes, "grpc.aio.ServicerContext[Any, Any]"], Awaitable[bytes]]


@asynccontextmanager
async def _serving(handler: Handler) -> AsyncIterator[grpc.aio.Channel]:
    server = grpc.aio.server()
    method = grpc.unary_unary_rpc_method_handler(handler)
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("test.Service", {"Call": method}),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            yield channel
    finally:
        await server.stop(None)


async def _refused_with(raised: Exception, request_id: str = "7f3a") -> grpc.aio.AioRpcError:
    async def handler(_: bytes, context: grpc.aio.ServicerContext[Any, Any]) -> bytes:
        await refuse(context, as_error(raised, request_id), request_id)

    async with _serving(handler) as channel:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await channel.unary_unary("/test.Service/Call")(b"")
    return caught.value


async def _status(error: grpc.aio.AioRpcError) -> status_pb2.Status:
    found = await rpc_status.from_call(_Call(error))
    assert found is not None
    return found


class _Call:
    """An AioRpcError in the form that grpc_status wants: it checks that code and text agree with the details."""

    def __init__(self, error: grpc.aio.AioRpcError) -> None:
        self._error = error

    async def code(self) -> grpc.StatusCode:
        return self._error.code()

    async def details(self) -> str | None:
        return self._error.details()

    async def trailing_metadata(self) -> grpc.aio.Metadata:
        return self._error.trailing_metadata()


def _info(status: status_pb2.Status) -> error_details_pb2.ErrorInfo:
    info = error_details_pb2.ErrorInfo()
    assert status.details[0].Unpack(info)
    return info


async def test_a_refusal_names_its_reason_and_keeps_its_private_text() -> None:
    raised = HeadraceError(grpc.StatusCode.PERMISSION_DENIED, Reason.NOT_GRANTED, "not for you", private=PRIVATE)
    error = await _refused_with(raised)
    assert (error.code(), error.details()) == (grpc.StatusCode.PERMISSION_DENIED, "not for you")
    status = await _status(error)
    assert len(status.details) == 1
    info = _info(status)
    assert (info.domain, info.reason, dict(info.metadata)) == ("headrace", "NOT_GRANTED", {"request_id": "7f3a"})
    assert PRIVATE.encode() not in status.SerializeToString()
    assert PRIVATE not in repr(error)


async def test_where_waiting_helps_it_says_how_long() -> None:
    raised = HeadraceError(grpc.StatusCode.RESOURCE_EXHAUSTED, Reason.OVERLOADED, "full", retry_after=1.25)
    status = await _status(await _refused_with(raised))
    retry = error_details_pb2.RetryInfo()
    assert status.details[1].Unpack(retry)
    assert (retry.retry_delay.seconds, retry.retry_delay.nanos) == (1, 250_000_000)


async def test_the_unforeseen_is_internal_with_its_id() -> None:
    error = await _refused_with(ValueError(PRIVATE))
    assert (error.code(), error.details()) == (grpc.StatusCode.INTERNAL, "internal error (request 7f3a)")
    status = await _status(error)
    assert _info(status).reason == "INTERNAL"
    assert PRIVATE.encode() not in status.SerializeToString()
    assert PRIVATE not in repr(error)


async def test_without_the_boundary_the_text_would_reach_the_caller() -> None:
    async def handler(_: bytes, __: grpc.aio.ServicerContext[Any, Any]) -> bytes:
        raise ValueError(PRIVATE)

    async with _serving(handler) as channel:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await channel.unary_unary("/test.Service/Call")(b"")
    assert PRIVATE in (caught.value.details() or "")


async def test_another_servers_details_pass_unchanged() -> None:
    theirs = status_pb2.Status(code=5, message="no such input").SerializeToString()
    error = await _refused_with(HeadraceError(grpc.StatusCode.NOT_FOUND, None, "no such input", details=theirs))
    assert (error.code(), error.details()) == (grpc.StatusCode.NOT_FOUND, "no such input")
    assert dict(error.trailing_metadata())[DETAILS_KEY] == theirs


def test_another_servers_silence_stays_silence() -> None:
    assert trailers(HeadraceError(grpc.StatusCode.NOT_FOUND, None, "no such input"), "7f3a") == ()


@pytest.mark.parametrize("reason", Reason)
async def test_every_reason_reads_back(reason: Reason) -> None:
    ((key, value),) = trailers(HeadraceError(grpc.StatusCode.UNAVAILABLE, reason, "words"), "")
    assert key == DETAILS_KEY
    status = status_pb2.Status.FromString(value)
    assert (_info(status).reason, dict(_info(status).metadata)) == (reason.value, {})
