"""Work that a thread does aside. Law: who hands it over never waits, and the end of the process hardly does."""

from __future__ import annotations

import contextlib
import functools
import queue
import time
from collections.abc import Callable, Iterator, Sequence
from threading import Thread
from typing import Final, TypeVar

T = TypeVar("T")

_MOST: Final = 10_000
_LAST_WORDS: Final = 1.0  # seconds that what is left may take


@contextlib.contextmanager
def aside(
    take: Callable[[T], None], name: str, most: int = _MOST, then: Callable[[], None] = lambda: None
) -> Iterator[queue.Queue[T | None]]:
    """While inside, a thread takes what is put into the queue; `put_nowait` raises queue.Full where so much waits.

    `then` is called when it has taken the last; a thread that hangs is left as it is. What `take` raises ends it.
    """

    def each(some: Sequence[T]) -> None:
        for one in some:
            take(one)

    with in_batches(each, name, most, then, at_once=1) as waiting:
        yield waiting


@contextlib.contextmanager
def in_batches(
    take: Callable[[Sequence[T]], None],
    name: str,
    most: int = _MOST,
    then: Callable[[], None] = lambda: None,
    every: float | None = None,
    at_once: int = 1000,
    gather: float = 0.0,
) -> Iterator[queue.Queue[T | None]]:
    """As `aside`; it takes `at_once` what waits, and nothing where for `every` seconds nothing came.

    For `gather` seconds more is waited for: a thread that wakes for each costs who hands over more than its work.
    """
    waiting: queue.Queue[T | None] = queue.Queue(most)
    next_ones = functools.partial(_some, waiting, every, at_once, gather)
    thread = Thread(target=_taken, args=(next_ones, take, then), name=name, daemon=True)
    thread.start()
    try:
        yield waiting
    finally:
        with contextlib.suppress(queue.Full):
            waiting.put_nowait(None)
        thread.join(_LAST_WORDS)


def _taken(
    next_ones: Callable[[], list[T | None]], take: Callable[[Sequence[T]], None], then: Callable[[], None]
) -> None:
    over = False
    while not over:
        some = next_ones()
        over = some[-1:] == [None]
        take([one for one in some if one is not None])
    then()


def _some(waiting: queue.Queue[T | None], every: float | None, at_once: int, gather: float) -> list[T | None]:
    """What waits, up to the end; waits for the first."""
    some: list[T | None] = []
    with contextlib.suppress(queue.Empty):
        some.append(waiting.get(timeout=every))
        if gather and some[-1] is not None:
            time.sleep(gather)
        while some[-1] is not None and len(some) < at_once:
            some.append(waiting.get_nowait())
    return some
