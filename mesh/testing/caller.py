"""Calls for a test. Law: as many at once as asked, each to its end, and nothing is tried again but by the mesh."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final

import grpc

from mesh.testing.calls import Call, Calls
from mesh.testing.worker import ANSWERED_BY, Worker
from protos.contract import SERVICE

_PATIENCE: Final = 60.0  # seconds for the first calls to end
INFER: Final = f"/{SERVICE}/ModelInfer"


@dataclass(frozen=True)
class Asked:
    """What is called: the path of an RPC, with headers, for at most `timeout` seconds."""

    method: str = INFER
    headers: Mapping[str, str] = field(default_factory=dict)
    timeout: float = 10.0


class Caller:
    """Calls one authority at one address, in plain text; `worker` is the one of a name, to tell who answered."""

    def __init__(self, address: str, authority: str, worker: Callable[[str], Worker | None]) -> None:
        options = (
            ("grpc.default_authority", authority),
            ("grpc.enable_retries", 0),
            ("grpc.use_local_subchannel_pool", 1),
            ("grpc.enable_http_proxy", 0),
        )
        self._channel = grpc.insecure_channel(address, options=options)
        self._worker = worker

    def call(self, asked: Asked) -> Call:
        """One call."""
        began = time.monotonic()
        method: grpc.UnaryUnaryMultiCallable[bytes, bytes] = self._channel.unary_unary(asked.method)
        call = method.future(b"", timeout=asked.timeout, metadata=tuple(asked.headers.items()))
        status = call.code()  # waits for the end
        answered_by = dict(call.trailing_metadata() or ()).get(ANSWERED_BY)
        return Call(status, call.details() or "", self._worker(str(answered_by)), time.monotonic() - began)

    def calls(self, asked: Asked, times: int, at_once: int) -> Calls:
        """So many calls, so many at once."""
        left = iter(range(times))
        done: dict[int, Call] = {}
        taking = threading.Lock()

        def work() -> None:
            while True:
                with taking:
                    number = next(left, None)
                if number is None:
                    return
                done[number] = self.call(asked)

        with _threads(work, at_once):
            pass
        return Calls([done[number] for number in sorted(done)])

    @contextlib.contextmanager
    def calling(self, asked: Asked, at_once: int) -> Iterator[Calls]:
        """Call without end while inside; what it gives grows meanwhile, and holds every call afterwards.

        Some calls end before the inside begins, and some begin after it has ended.
        """
        done: list[Call] = []
        begun, over = threading.Barrier(at_once + 1, timeout=_PATIENCE), threading.Event()

        def work() -> None:
            done.append(self.call(asked))
            begun.wait()
            while not over.is_set():
                done.append(self.call(asked))
            done.append(self.call(asked))

        with _threads(work, at_once):
            begun.wait()
            try:
                yield Calls(done)
            finally:
                over.set()

    def close(self) -> None:
        """End the connection."""
        self._channel.close()


@contextlib.contextmanager
def _threads(work: Callable[[], None], count: int) -> Iterator[None]:
    """The same work in so many threads; all of it is done afterwards."""
    threads = [threading.Thread(target=work) for _ in range(count)]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        for thread in threads:
            thread.join()
