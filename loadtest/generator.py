"""Calls, as many at once as asked. Law: a call counts as done only when the answer's bytes are the expected ones."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from itertools import repeat
from time import perf_counter

from loadtest import http2
from loadtest.children import Broken
from loadtest.payload import PATH, answer, prefixed

_EXPECTED = prefixed(answer())
_PATIENCE = 30.0  # seconds

Call = tuple[bytes, bytes]  # a header block, and the framed message


@dataclass(slots=True)
class Tally:
    """What has come back since it was made: answers, failures, and each answer's latency in seconds."""

    failed: int = 0
    latencies: list[float] = field(default_factory=list)


class Generator(http2.Connection):
    """A caller that keeps `concurrency` of the `calls` open, until there are no more or it is stopped."""

    def __init__(self, calls: Iterator[Call], concurrency: int) -> None:
        super().__init__(client=True)
        self._calls = calls
        self._concurrency = concurrency
        self._next = 1
        self._open: dict[int, tuple[float, bytearray]] = {}
        self._idle = asyncio.Event()
        self.tally = Tally()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Open the first calls."""
        super().connection_made(transport)
        for _ in range(self._concurrency):
            self._call()
        self.flush()

    def on_data(self, stream: int, payload: memoryview) -> None:
        """Part of an answer."""
        self._open[stream][1].extend(payload)

    def on_end(self, stream: int, *, reset: bool) -> None:
        """An answer, or a failure; and the next call."""
        if stream not in self._open:
            return
        started, received = self._open.pop(stream)
        if received == _EXPECTED and not reset:
            self.tally.latencies.append(perf_counter() - started)
        else:
            self.tally.failed += 1
        self._call()

    def connection_lost(self, _: Exception | None) -> None:
        """What was open has failed."""
        self.tally.failed += len(self._open)
        self._open.clear()
        self._idle.set()

    def fresh_tally(self) -> Tally:
        """Count anew; returns what was counted so far."""
        before, self.tally = self.tally, Tally()
        return before

    async def idle(self) -> None:
        """Wait until there are no more calls."""
        await self._idle.wait()

    async def finish(self) -> None:
        """Open no more calls, wait for those that are open, and close. What is then still open has failed."""
        self._calls = iter(())
        if self._open:
            with suppress(TimeoutError):
                await asyncio.wait_for(self.idle(), _PATIENCE)
        self.tally.failed += len(self._open)
        self._open.clear()
        self.close()

    def _call(self) -> None:
        call = next(self._calls, None)
        if call is None:
            if not self._open:
                self._idle.set()
            return
        block, message = call
        stream, self._next = self._next, self._next + 2
        self._open[stream] = (perf_counter(), bytearray())
        self.send(stream, http2.frame(http2.HEADERS, http2.END_HEADERS, stream, block), message)


def repeated(authority: str, metadata: Sequence[tuple[str, str]], message: bytes) -> Iterator[Call]:
    """The same call without end, for one connection: its peer is told to remember the headers."""
    headers = (*_headers(authority), *metadata)
    framed = prefixed(message)
    yield http2.literal(headers, keep=True), framed
    yield from repeat((http2.kept(len(headers)), framed))


def spelled(authority: str, metadata: Sequence[tuple[str, str]], message: bytes) -> Call:
    """A call, for any connection."""
    return http2.literal((*_headers(authority), *metadata)), prefixed(message)


def _headers(authority: str) -> tuple[tuple[str, str], ...]:
    return (
        (":method", "POST"),
        (":scheme", "http"),
        (":path", PATH),
        (":authority", authority),
        ("te", "trailers"),
        ("content-type", "application/grpc"),
        ("grpc-timeout", "20S"),
    )


@asynccontextmanager
async def connected(address: str, calls: Iterator[Call], concurrency: int, refusal: str) -> AsyncIterator[Generator]:
    """A caller of HOST:PORT, which has finished on leaving. Raises Broken with `refusal`: nobody is there."""
    host, _, port = address.rpartition(":")
    loop = asyncio.get_running_loop()
    try:
        _, caller = await loop.create_connection(lambda: Generator(calls, concurrency), host, int(port))
    except OSError as error:
        raise Broken(f"{refusal}: {error}") from None
    try:
        yield caller
    finally:
        await caller.finish()
