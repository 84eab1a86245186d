"""`python -m loadtest.pace`: a caller that keeps its pace. Law: it calls when it is time to, whatever became of others.

So it sees what waits in line, which a caller that waits for its answer does not. What is asked for comes as one line of
JSON on standard input (`Pace`), and what was seen goes as one to standard output (`Seen`).
"""

from __future__ import annotations

import asyncio
import json
import random
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field

import grpc
import grpc.aio

from loadtest.payload import PATH, SHAPES, request

_Call = grpc.aio.UnaryUnaryMultiCallable[bytes, bytes]
_WITHIN = 2.0  # seconds that a call may take
_OPTIONS = (("grpc.use_local_subchannel_pool", 1),)


@dataclass(frozen=True, slots=True)
class Pace:
    """So many calls a second with this metadata, at random as callers do (a Poisson process), for so many seconds.

    What was called in the first `warm` seconds is not told.
    """

    address: str
    metadata: Sequence[tuple[str, str]]
    per_second: float
    seconds: float
    warm: float
    seed: int


@dataclass(slots=True)
class Seen:
    """Seconds that calls took: answered, or given up at their deadline; refused; and how many ended otherwise."""

    answered: list[float] = field(default_factory=list)
    late: list[float] = field(default_factory=list)
    refused: list[float] = field(default_factory=list)
    failed: int = 0


async def keep(pace: Pace) -> Seen:
    """Call so, and wait for the last."""
    seen, running = Seen(), set[asyncio.Task[None]]()
    luck, loop = random.Random(pace.seed), asyncio.get_running_loop()  # noqa: S311 - when to call is no secret
    async with grpc.aio.insecure_channel(pace.address, options=_OPTIONS) as channel:
        call: _Call = channel.unary_unary(PATH)
        begin = at = loop.time()
        while at < begin + pace.seconds:
            await asyncio.sleep(at - loop.time())
            one = asyncio.create_task(_one(call, pace.metadata, seen if at - begin >= pace.warm else Seen()))
            running.add(one)
            one.add_done_callback(running.discard)
            at += luck.expovariate(pace.per_second)
        await asyncio.gather(*running)
    return seen


_MESSAGE = request(SHAPES["small"])


async def _one(call: _Call, metadata: Sequence[tuple[str, str]], seen: Seen) -> None:
    began = time.perf_counter()
    try:
        await call(_MESSAGE, metadata=metadata, timeout=_WITHIN)
    except grpc.aio.AioRpcError as error:
        took = time.perf_counter() - began
        if error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED:
            seen.refused.append(took)
        elif error.code() is grpc.StatusCode.DEADLINE_EXCEEDED:
            seen.late.append(took)
        else:
            seen.failed += 1
    else:
        seen.answered.append(time.perf_counter() - began)


if __name__ == "__main__":
    asked = Pace(**json.loads(sys.stdin.readline()))
    print(json.dumps(asdict(asyncio.run(keep(asked)))))  # noqa: T201 - the parent reads it
