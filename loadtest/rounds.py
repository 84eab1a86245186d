"""Two proxies by turns before one worker. Law: both see the same bytes on the same processor, never at the same time.

The subject and the baseline share one processor and idle while the other is measured; caller and worker have the
rest, so that the proxy is what limits the rate.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from time import perf_counter

from loadtest import setting
from loadtest.children import Child, child, room
from loadtest.collector import Collector, collecting
from loadtest.figures import Sample
from loadtest.generator import Generator, connected, repeated
from loadtest.payload import SHAPES, request

SUBJECT, BASELINE = "subject", "baseline"
Key = tuple[str, str]  # which proxy, which shape
Results = Mapping[Key, Sequence[Sample]]
_WARM = 0.25  # of the measured time, before it
_ALONE = 0.25  # of the measured time, after it, one call at a time


@dataclass(frozen=True, slots=True)
class Plan:
    """How much to measure: `seconds` under load for each proxy and shape in each round."""

    rounds: int
    seconds: float
    concurrency: int


@dataclass(frozen=True, slots=True)
class Stage:
    """What stands: the two proxies, the caller's metadata, and where spans go."""

    proxies: Mapping[str, Child]
    metadata: Sequence[tuple[str, str]]
    collector: Collector


@contextmanager
def stage(subject: str, *, backend_status: int = 0) -> Iterator[Stage]:
    """Start it all and end it all. `subject` is `gateway`, `threads`, or `null` for a second baseline. Raises Broken.

    A `backend_status` other than 0 makes the worker refuse every call with it.
    """
    with room() as (stack, folder, log, proxy_cpus, other_cpus):
        collector, collector_at = stack.enter_context(collecting())
        backend = stack.enter_context(child(other_cpus, "-m", "loadtest.backend", str(backend_status), log=log)).address
        config, token = setting.write(folder, backend, collector_at)
        proxies = {
            role: stack.enter_context(child(proxy_cpus, *_command(name, config, backend), log=log))
            for role, name in ((SUBJECT, subject), (BASELINE, "bare"))
        }
        yield Stage(proxies, (("authorization", f"Bearer {token}"),), collector)


def samples(plan: Plan) -> int:
    """How often `measure` will say that it has done one."""
    return (plan.rounds + 1) * len(SHAPES) * 2


async def measure(stage: Stage, plan: Plan, done: Callable[[], None]) -> Results:
    """All rounds; the order of the proxies is swapped after each. `done` is called after each sample.

    A round before the first is thrown away: processes are slower when they are new. Raises Broken.
    """
    results: dict[Key, list[Sample]] = {(proxy, shape): [] for shape in SHAPES for proxy in (SUBJECT, BASELINE)}
    messages = {name: request(shape) for name, shape in SHAPES.items()}
    for index in range(-1, plan.rounds):
        order = (SUBJECT, BASELINE) if index % 2 == 0 else (BASELINE, SUBJECT)
        for shape, message in messages.items():
            for proxy in order:
                sample = await _sample(stage.proxies[proxy], stage.metadata, message, plan)
                if index >= 0:
                    results[proxy, shape].append(sample)
                done()
    return results


async def _sample(proxy: Child, metadata: Sequence[tuple[str, str]], message: bytes, plan: Plan) -> Sample:
    async with _calling(proxy, metadata, message, plan.concurrency) as caller:
        await asyncio.sleep(plan.seconds * _WARM)
        failed = caller.fresh_tally().failed
        started, cpu = perf_counter(), proxy.cpu()
        await asyncio.sleep(plan.seconds)
        tally, seconds, cpu = caller.fresh_tally(), perf_counter() - started, proxy.cpu() - cpu
    async with _calling(proxy, metadata, message, 1) as alone:
        await asyncio.sleep(plan.seconds * _ALONE)
    failed += tally.failed + caller.tally.failed + alone.tally.failed
    p50 = median(alone.tally.latencies) if alone.tally.latencies else float("inf")
    return Sample(len(tally.latencies), failed, seconds, cpu, p50, cpu)


def _calling(
    proxy: Child, metadata: Sequence[tuple[str, str]], message: bytes, concurrency: int
) -> AbstractAsyncContextManager[Generator]:
    calls = repeated(proxy.address, metadata, message)
    return connected(proxy.address, calls, concurrency, f"the proxy at {proxy.address} has ended")


def _command(name: str, config: Path, backend: str) -> tuple[str, ...]:
    if name == "gateway":
        return ("-m", "headrace", "gateway", "--config", str(config))
    return ("-m", "loadtest.threads" if name == "threads" else "loadtest.bare", backend)
