"""Who looks at calls, put together. Law: each is made here as the settings say, and ended by the stack or at the end.

Spans, metrics, access log and audit look on; a call knows none of them by name (`gateway.exchange.Around`).
"""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass

from gateway import audited, logged
from gateway.access_log import Told, appending
from gateway.audit import Audit, auditing
from gateway.counted import counting
from gateway.ended import Observer
from gateway.errors import StartError
from gateway.exchange import Around
from gateway.lane import Front
from gateway.numbers import Numbers, pushed, told
from gateway.settings import Settings, Telemetry
from mesh.catalog import Catalog
from protos import spans
from protos.last_words import LastWords
from protos.metrics.instruments import Registry
from protos.metrics.snapshot import Snapshot
from protos.spans import Spans

log = logging.getLogger("headrace.gateway")


@dataclass(frozen=True)
class Observability:
    """`around` is for calls; `registry` for what is counted; `numbers` are None where nothing is told of that."""

    spans: Spans
    registry: Registry
    audit: Audit | None
    around: Around
    numbers: Numbers | None


async def observability(
    settings: Settings,
    front: Front | None,
    catalog: Callable[[], Catalog],
    elsewhere: Callable[[], Awaitable[Sequence[Snapshot]]],
    stack: contextlib.AsyncExitStack,
    last_words: LastWords,
) -> Observability:
    """All that looks on; `catalog` has the models in force, `elsewhere` tells what others count. Raises StartError."""
    telemetry = settings.telemetry
    made = spans.to(telemetry.otlp, telemetry.service, "headrace.gateway", sample=telemetry.sample, slow=telemetry.slow)
    last_words.add(made.close)
    registry = Registry(time.time)
    audit = _audit(settings, stack)
    around = Around(
        made,
        time.monotonic,
        observers=tuple(_observers(settings, registry, catalog, audit, stack)),
        of_messages=tuple(_audited(audited.of_messages, settings, audit)),
        fronted=front is not None,
        claims=telemetry.claims,
    )
    numbers = await _numbers(Numbers(registry, elsewhere), telemetry, front, stack, last_words)
    return Observability(made, registry, audit, around, numbers)


def _audit(settings: Settings, stack: contextlib.AsyncExitStack) -> Audit | None:
    """The audit, where there is to be one."""
    asked = settings.audit
    if asked is None:
        return None
    if settings.listen.express == "external":
        log.warning("calls that the mesh's own Envoy carries are not in the audit: Python does not see them")
    try:
        return stack.enter_context(auditing(asked.file, asked.rotate, asked.keep, refuses=asked.on_failure == "refuse"))
    except OSError as error:
        raise StartError(f"the audit {asked.file} cannot be written: {error.strerror}") from None


def _observers(
    settings: Settings,
    registry: Registry,
    catalog: Callable[[], Catalog],
    audit: Audit | None,
    stack: contextlib.AsyncExitStack,
) -> Iterator[Observer]:
    """Who looks at each call that Python has answered."""
    if settings.telemetry.metrics:
        yield counting(registry, catalog)
    if (path := settings.telemetry.access_log) is not None:
        try:
            yield logged.to(stack.enter_context(appending(path, time.monotonic)))
        except OSError as error:
            raise StartError(f"the access log {path} cannot be opened: {error.strerror}") from None
    yield from _audited(audited.to, settings, audit)


def _audited(
    to: Callable[[Callable[[Told], None], float], Observer], settings: Settings, audit: Audit | None
) -> Iterator[Observer]:
    if audit is not None and settings.audit is not None:
        yield to(audit.write, settings.audit.sample)


async def _numbers(
    numbers: Numbers,
    telemetry: Telemetry,
    front: Front | None,
    stack: contextlib.AsyncExitStack,
    last_words: LastWords,
) -> Numbers | None:
    """What is counted, and told to whoever is to hear it; None where nothing is counted."""
    if not telemetry.metrics:
        return None
    if front is not None and front.numbers is not None:
        await stack.enter_async_context(told(numbers.registry.snapshot, front.numbers))
    else:
        last_words.add(pushed(numbers, telemetry))
    return numbers
