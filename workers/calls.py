"""One RPC at the worker's socket. Law: here bytes become requests, errors become statuses, and every call is seen.

Handlers are generic: a message that cannot be read is answered like any other error, and large ones are read in a
thread.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator
from contextlib import aclosing, contextmanager
from dataclasses import dataclass
from typing import Any, Generic, NoReturn, TypeVar

import grpc
import grpc.aio
from google.protobuf.message import DecodeError, Message
from opentelemetry.trace import SpanContext

from protos import of_call, tracing
from protos.boundary import as_error, refuse
from protos.complaints import Complaints
from protos.errors import HeadraceError, Reason
from protos.spans import Spans
from workers.errors import malformed
from workers.metrics import Metrics
from workers.model import LARGE, Answer
from workers.spans import CallSpan

Context = grpc.aio.ServicerContext[Any, Any]  # requests and responses are bytes; gRPC's types cannot say so
Q = TypeVar("Q", bound=Message)
A = TypeVar("A", bound=Message)


@dataclass(frozen=True, slots=True)
class Records:
    """Where calls are written down: their spans, what nobody foresaw, and how many there were."""

    spans: Spans
    complaints: Complaints
    metrics: Metrics


class Call:
    """One call as the service sees it: how long it may take, under which id, and its span."""

    __slots__ = ("_context", "_model", "_named", "_records", "_version", "request_id", "span")

    def __init__(self, context: Context, span: CallSpan, request_id: str, records: Records) -> None:
        self._context = context
        self._records = records
        self._model = ""
        self._version = ""
        self.span = span
        self.request_id = self._named = request_id

    @property
    def span_context(self) -> SpanContext:
        """Its place in its trace."""
        return self.span.place.context

    def remaining(self) -> float | None:
        """Seconds until the caller's deadline; None where it set none."""
        return self._context.time_remaining()

    def asked(self, model: str, version: str, request_id: str) -> None:
        """What a message says; its id counts where the metadata brought none."""
        self._model, self._version = model, ""
        self.request_id = self._named or request_id
        self.span.said |= {tracing.MODEL: model, tracing.VERSION_ASKED: version}
        if self.request_id:
            self.span.said[tracing.REQUEST_ID] = self.request_id

    def reached(self, version: int) -> None:
        """Which version it is for, whatever comes of it."""
        self._version = str(version)

    def inferred(self, answer: Answer) -> None:
        """A request of it is answered."""
        computed, context = answer.ran.computed, self.span_context
        self._records.metrics.inferred(self._model, self._version, answer.queued, computed, context)

    def served(self, version: int, answer: Answer) -> None:
        """Which version gave the answer, and how."""
        self.span.served(version, answer.batch, answer.queued, answer.ran)

    def complain(self, message: str) -> None:
        """Say in the log what went wrong with the model, once in a while; a caller may call again and again."""
        self._records.complaints.warn((self._model, "complaint"), message)

    def judge(self, error: Exception) -> HeadraceError:
        """The error that the caller is told of; what was not foreseen is logged, for nobody else will see it."""
        judged = as_error(error, self.request_id)
        if judged.reason is not None:
            self.span.said[tracing.REASON] = judged.reason
        if judged.reason is Reason.INTERNAL:
            of = f"model '{self._model}', " if self._model else ""
            message = f"{of}request {self.request_id or 'without id'}: {judged.private}"
            self._records.complaints.warn((self._model, type(error)), message, exc_info=error)
        return judged

    def ended(self, method: str) -> None:
        """It is over."""
        seconds = self.span.close()
        context = self.span.place.context
        self._records.metrics.ended(method, self._model, self._version, self.span.status.name, seconds, context)


class Unary(Generic[Q, A]):
    """The gRPC handler of one unary RPC."""

    def __init__(
        self, method: str, request: type[Q], answer: Callable[[Q, Call], Awaitable[A]], records: Records
    ) -> None:
        self._method = method
        self._request = request
        self._answer = answer
        self._records = records

    def handler(self) -> grpc.RpcMethodHandler[Any, Any]:
        """For `grpc.method_handlers_generic_handler`."""
        return grpc.unary_unary_rpc_method_handler(self.answer)

    async def answer(self, body: bytes, context: Context) -> bytes:
        """Answer one call, or end it with a status."""
        with _call(self._method, context, self._records) as call:
            try:
                answer = await self._answer(await read(self._request, body), call)
                serialized = answer.SerializeToString()
            except Exception as error:  # noqa: BLE001 - the boundary
                await _refuse(context, call, error)
        return serialized


class Streaming(Generic[Q, A]):
    """The gRPC handler of one RPC that streams both ways: each request's answers, request by request."""

    def __init__(
        self, method: str, request: type[Q], answers: Callable[[Q, Call], AsyncGenerator[A, None]], records: Records
    ) -> None:
        self._method = method
        self._request = request
        self._answers = answers
        self._records = records

    def handler(self) -> grpc.RpcMethodHandler[Any, Any]:
        """For `grpc.method_handlers_generic_handler`."""
        return grpc.stream_stream_rpc_method_handler(self.answer)

    async def answer(self, messages: AsyncGenerator[bytes, None], context: Context) -> None:
        """Answer one stream until the caller has sent its last, or end it with a status."""
        with _call(self._method, context, self._records) as call:
            try:
                async for body in messages:
                    call.span.received += 1
                    async with aclosing(self._answers(await read(self._request, body), call)) as answers:
                        async for answer in answers:
                            await context.write(answer.SerializeToString())
                            call.span.sent += 1
            except Exception as error:  # noqa: BLE001 - the boundary
                await _refuse(context, call, error)


async def read(kind: type[Q], body: bytes) -> Q:
    """The message that the bytes hold. Raises REQUEST_MALFORMED."""
    try:
        return kind.FromString(body) if len(body) < LARGE else await asyncio.to_thread(kind.FromString, body)
    except DecodeError:
        raise malformed("the message cannot be read") from None


async def _refuse(context: Context, call: Call, error: Exception) -> NoReturn:
    judged = call.judge(error)
    call.span.ends(judged.status, str(judged))
    await refuse(context, judged, call.request_id)


@contextmanager
def _call(method: str, context: Context, records: Records) -> Iterator[Call]:
    metadata = tuple(context.invocation_metadata() or ())
    ids = [value for key, value in metadata if key == tracing.REQUEST_ID_KEY and isinstance(value, str)]
    span = CallSpan(records.spans, method, metadata)
    call = Call(context, span, ids[0] if len(ids) == 1 else "", records)
    of_call.begin(call)
    if call.request_id:
        span.said[tracing.REQUEST_ID] = call.request_id
    try:
        yield call
        span.ends(grpc.StatusCode.OK)
    except asyncio.CancelledError:
        span.ends(grpc.StatusCode.CANCELLED, "the caller has gone, or its time was up")
        raise
    finally:
        call.ended(method)
