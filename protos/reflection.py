"""Server reflection of the contract. Law: every symbol of it is found, methods too; a question is short.

The library's servicer answers; what stands here reads its questions, under both names that clients use. gRPC's own
Python servicer asks protobuf's pool, which does not find files by a method's name; ghz asks by these.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any, Final, cast

import grpc
import grpc.aio
from google.protobuf import descriptor_pool
from google.protobuf.descriptor import FileDescriptor
from google.protobuf.message import DecodeError
from grpc_reflection.v1alpha import reflection
from grpc_reflection.v1alpha.reflection_pb2 import ServerReflectionRequest

from protos.boundary import refuse
from protos.errors import HeadraceError, Reason

_METHODS: Final = frozenset(
    f"/grpc.reflection.{version}.ServerReflection/ServerReflectionInfo" for version in ("v1", "v1alpha")
)
_LONGEST: Final = 4096  # bytes of a question; it is read from anyone, and sent back with the answer
_WITHIN: Final = 10.0  # seconds in which each must come, and its answer be taken
_MOST: Final = 64  # askers at a time


class _Pool:
    """protobuf's default pool, for which methods are symbols, too."""

    def __init__(self) -> None:
        self._pool = descriptor_pool.Default()

    def __getattr__(self, name: str) -> object:
        return getattr(self._pool, name)

    def FindFileContainingSymbol(self, symbol: str) -> FileDescriptor:  # noqa: N802 - protobuf's name
        """The file that declares a message, an enum, a service or a method. Raises KeyError."""
        try:
            return self._pool.FindFileContainingSymbol(symbol)
        except KeyError:
            service, _, method = symbol.rpartition(".")
            return self._pool.FindServiceByName(service).methods_by_name[method].containing_service.file


class _Handler(grpc.GenericRpcHandler):
    def __init__(self, services: tuple[str, ...]) -> None:
        pool = cast("descriptor_pool.DescriptorPool", _Pool())
        self._askers = 0
        self._servicer: Any = reflection.aio.ReflectionServicer((*services, reflection.SERVICE_NAME), pool)

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler[Any, Any] | None:
        known = handler_call_details.method in _METHODS
        return grpc.stream_stream_rpc_method_handler(self._answer) if known else None

    async def _answer(self, messages: AsyncIterator[bytes], context: grpc.aio.ServicerContext[Any, Any]) -> None:
        async def questions() -> AsyncIterator[ServerReflectionRequest]:
            while True:
                async with asyncio.timeout(_WITHIN):
                    message = await anext(messages, None)
                if message is None:
                    return
                yield _question(message)

        self._askers += 1
        try:
            if self._askers > _MOST:
                raise _refusal(Reason.OVERLOADED, "too many ask what there is; ask again later")
            answers = self._servicer.ServerReflectionInfo(questions(), context)
            async for answer in answers:
                async with asyncio.timeout(_WITHIN):
                    await context.write(answer.SerializeToString())
        except TimeoutError:
            await refuse(context, _refusal(Reason.DEADLINE, "time is up"))
        except HeadraceError as error:
            await refuse(context, error)
        finally:
            self._askers -= 1


_STATUS: Final = {
    Reason.DEADLINE: grpc.StatusCode.DEADLINE_EXCEEDED,
    Reason.OVERLOADED: grpc.StatusCode.RESOURCE_EXHAUSTED,
    Reason.REQUEST_MALFORMED: grpc.StatusCode.INVALID_ARGUMENT,
}


def _refusal(reason: Reason, public: str) -> HeadraceError:
    return HeadraceError(_STATUS[reason], reason, public)


def _question(message: bytes) -> ServerReflectionRequest:
    """The question that the bytes hold. Raises REQUEST_MALFORMED."""
    try:
        if len(message) <= _LONGEST:
            return ServerReflectionRequest.FromString(message)
        public = "the question is too long"
    except DecodeError:
        public = "the question cannot be read"
    raise _refusal(Reason.REQUEST_MALFORMED, public)


def enable(server: grpc.aio.Server, *services: str) -> None:
    """Let callers ask what the services, and reflection itself, look like (`grpc.reflection`, v1 and v1alpha)."""
    server.add_generic_rpc_handlers((_Handler(services),))
