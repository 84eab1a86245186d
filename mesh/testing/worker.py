"""A stand-in for a worker. Law: it answers every RPC as it is told, says who it is, and notes what reached it."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, Final, NoReturn

import grpc

ANSWERED_BY: Final = "x-answered-by"
"""In the answer's trailing metadata: the name of the worker."""

_AT_ONCE: Final = 256  # calls that a stand-in can have in its hands
_STREAMS: Final = ("Stream", "Watch")  # names of RPCs with many messages hold one of these


@dataclass(frozen=True)
class Request:
    """A call that reached a worker: its path, `/package.Service/Method`, and its metadata."""

    path: str
    headers: Mapping[str, str | bytes]


@dataclass(frozen=True)
class _Behaviour:
    status: grpc.StatusCode = grpc.StatusCode.OK
    after: float = 0.0
    times: int | None = None


@dataclass
class Worker:
    """A copy by NAME.NAMESPACE of its WorkloadEntry, with its labels; it listens at an address of its own.

    It answers OK, with no bytes, unless told otherwise.
    """

    name: str
    labels: Mapping[str, str]
    address: str
    requests: list[Request] = field(default_factory=list, repr=False)
    _ports: set[int] = field(default_factory=set, repr=False)
    _behaviour: _Behaviour = field(default=_Behaviour(), repr=False)
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)
    _released: threading.Event = field(default_factory=threading.Event, repr=False)
    _servers: list[tuple[grpc.Server, ThreadPoolExecutor]] = field(default_factory=list, repr=False)

    def answers(
        self, status: grpc.StatusCode = grpc.StatusCode.OK, *, after: float = 0.0, times: int | None = None
    ) -> None:
        """From now on answer with a status, `after` so many seconds; with `times`, that often, and then OK at once."""
        with self._lock:
            self._behaviour = _Behaviour(status, after, times)

    def stop(self) -> None:
        """End as a process that is killed: connections are closed, and nobody listens any more."""
        ended = [server.stop(None) for server, _ in self._servers]
        self._released.set()
        for end, (_, threads) in zip(ended, self._servers, strict=True):
            end.wait()
            threads.shutdown()
        self._servers.clear()

    def start(self) -> None:
        """Listen again where it did before it was stopped."""
        if not self._servers:
            self._released.clear()
            for port in self._ports:
                self._serve(port)

    def listen(self, ports: Iterable[int]) -> None:
        """Listen at these ports, too. Raises RuntimeError: one is taken."""
        for port in sorted(set(ports) - self._ports):
            self._ports.add(port)
            self._serve(port)

    def _serve(self, port: int) -> None:
        threads = ThreadPoolExecutor(_AT_ONCE, self.name)
        server = grpc.server(threads, options=(("grpc.so_reuseport", 0),))
        server.add_generic_rpc_handlers((_Handler(self),))
        server.add_insecure_port(f"{self.address}:{port}")
        server.start()
        self._servers.append((server, threads))

    def take(self, path: str, context: grpc.ServicerContext) -> None:
        """Note a call and do as told; returns if it is to be answered OK, and else ends it."""
        with self._lock:
            self.requests.append(Request(path, dict(context.invocation_metadata())))
            told = self._behaviour
            if told.times is not None:
                left = told.times - 1
                self._behaviour = _Behaviour(told.status, told.after, left) if left > 0 else _Behaviour()
        # Behind the answer: an error whose headers are on their way cannot be tried again.
        context.set_trailing_metadata(((ANSWERED_BY, self.name),))
        if told.after:
            self._released.wait(told.after)
        if told.status is not grpc.StatusCode.OK:
            _abort(context, told.status)


class _Handler(grpc.GenericRpcHandler):
    def __init__(self, worker: Worker) -> None:
        self._worker = worker

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler[Any, Any]:
        path = handler_call_details.method
        if any(word in path.rpartition("/")[2] for word in _STREAMS):

            def stream(messages: Iterator[bytes], context: grpc.ServicerContext) -> Iterator[bytes]:
                self._worker.take(path, context)
                yield from messages

            return grpc.stream_stream_rpc_method_handler(stream)

        def unary(_message: bytes, context: grpc.ServicerContext) -> bytes:
            self._worker.take(path, context)
            return b""

        return grpc.unary_unary_rpc_method_handler(unary)


def _abort(context: grpc.ServicerContext, status: grpc.StatusCode) -> NoReturn:
    context.abort(status, f"told to answer {status.name}")
    raise AssertionError
