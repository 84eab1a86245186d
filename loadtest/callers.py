"""Many callers at once, each with its own token and model. Law: one after the other has its turn, on any connection.

h2load has one header and one message for all; the calls here differ, so they are made by our own generator. That is
slower than what it loads: what can be told is processor time, not rates.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from itertools import islice
from statistics import median
from time import perf_counter

from loadtest.children import Broken
from loadtest.generator import Call, Generator, connected, spelled
from loadtest.ground import Contender
from loadtest.h2load import Run

_PATIENCE = 300.0  # seconds
_AT_ONCE = 100  # connections that are opened together


def drive(address: str, calls: Iterator[Call], number: int, connections: int) -> Run:
    """So many of the calls, one at a time on each connection. Raises Broken."""
    return asyncio.run(_drive(address, islice(calls, number), number, connections))


async def _drive(address: str, calls: Iterator[Call], number: int, connections: int) -> Run:
    async with AsyncExitStack() as stack:
        began = perf_counter()
        callers = [await stack.enter_async_context(_connected(address, calls)) for _ in range(connections)]
        await _all_idle(callers, address)
        seconds = perf_counter() - began
    latencies = [one for caller in callers for one in caller.tally.latencies]
    return Run(len(latencies), number - len(latencies), seconds, median(latencies) if latencies else float("inf"))


@asynccontextmanager
async def holding(contender: Contender, message: bytes, connections: int) -> AsyncIterator[None]:
    """So many connections, each of which has had its call and stays, while inside. Raises Broken."""
    call = spelled(contender.address, contender.metadata, message)
    failed = 0
    async with AsyncExitStack() as stack:
        for begin in range(0, connections, _AT_ONCE):
            number = min(_AT_ONCE, connections - begin)
            callers = [
                await stack.enter_async_context(_connected(contender.address, iter([call]))) for _ in range(number)
            ]
            await _all_idle(callers, contender.address)
            failed += sum(caller.tally.failed for caller in callers)
        if failed:
            raise Broken(f"{contender.name}: {failed} of {connections} connections had no answer")
        yield


def _connected(address: str, calls: Iterator[Call]) -> AbstractAsyncContextManager[Generator]:
    return connected(address, calls, 1, f"{address} takes no connection")


async def _all_idle(callers: list[Generator], address: str) -> None:
    try:
        async with asyncio.timeout(_PATIENCE):
            for caller in callers:
                await caller.idle()
    except TimeoutError:
        raise Broken(f"{address} had not answered all within {_PATIENCE:g} s") from None
