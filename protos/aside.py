"""Work that a thread does aside. Law: who hands it over never waits, and the end of the process hardly does."""

from __future__ import annotations

import contextlib
import functools
import queue
import time
from collections.abc import Callable, Iterator, Sequence
from threading import Thread
from typing import Final, Generic, TypeVar

T = TypeVar("T")

_MOST: Final = 10_000
_LAST_WORDS: Final = 1.0  # seconds that what is left may take


class Waiting(Generic[T]):
    """What waits for a thread, `most` of it at a time, or one more for each who puts at once."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._queue: queue.SimpleQueue[T | None] = queue.SimpleQueue()

    def put(self, one: T) -> bool:
        """Whether it found room."""
        if room := self._queue.qsize() < self._most:
            self._queue.put(one)
        return room

    def end(self) -> None:
        """Nothing comes after this."""
        self._queue.put(None)

    def some(self, every: float | None, at_once: int, gather: float) -> list[T | None]:
        """What waits, up to the end, which is None; waits for the first."""
        some: list[T | None] = []
        with contextlib.suppress(queue.Empty):
            some.append(self._queue.get(timeout=every))
            if gather and some[-1] is not None:
                time.sleep(gather)
            while some[-1] is not None and len(some) < at_once:
                some.append(self._queue.get_nowait())
        return some


@contextlib.contextmanager
def aside(
    take: Callable[[T], None], name: str, most: int = _MOST, then: Callable[[], None] = lambda: None
) -> Iterator[Waiting[T]]:
    """While inside, a thread takes what is put there, of which so much may wait.

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
) -> Iterator[Waiting[T]]:
    """As `aside`; it takes `at_once` what waits, and nothing where for `every` seconds nothing came.

    For `gather` seconds more is waited for: a thread that wakes for each costs who hands over more than its work.
    """
    waiting: Waiting[T] = Waiting(most)
    next_ones = functools.partial(waiting.some, every, at_once, gather)
    thread = Thread(target=_taken, args=(next_ones, take, then), name=name, daemon=True)
    thread.start()
    try:
        yield waiting
    finally:
        waiting.end()
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
