"""Work that a thread does aside. Law: who hands it over never waits, and the end of the process hardly does."""

from __future__ import annotations

import contextlib
import queue
from collections.abc import Callable, Iterator
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
    waiting: queue.Queue[T | None] = queue.Queue(most)
    thread = Thread(target=_taken, args=(waiting, take, then), name=name, daemon=True)
    thread.start()
    try:
        yield waiting
    finally:
        with contextlib.suppress(queue.Full):
            waiting.put_nowait(None)
        thread.join(_LAST_WORDS)


def _taken(waiting: queue.Queue[T | None], take: Callable[[T], None], then: Callable[[], None]) -> None:
    while (one := waiting.get()) is not None:
        take(one)
    then()
