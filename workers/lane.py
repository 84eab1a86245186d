"""Threads for inference.

Law: a lane runs one thing at a time, in order, in one thread of its own, and never holds up the end of the process.

Executors of the standard library join their threads at exit: a model that hangs would keep the worker from ending.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Callable
from queue import SimpleQueue
from typing import Final, ParamSpec, TypeVar

log: Final = logging.getLogger("headrace.worker.lane")
P = ParamSpec("P")
T = TypeVar("T")


class Lane:
    """One daemon thread, begun at once and ended by `close`."""

    def __init__(self, name: str) -> None:
        self._things: SimpleQueue[Callable[[], object] | None] = SimpleQueue()
        self._began: float | None = None
        threading.Thread(target=self._work, name=name, daemon=True).start()

    def run(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> asyncio.Future[T]:
        """The function's outcome, for the running event loop. A cancelled future keeps what has begun from no end."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[T] = loop.create_future()

        def settle(result: T | None, error: Exception | None) -> None:
            if future.done():
                return
            if error is not None:
                future.set_exception(error)
            else:
                future.set_result(result)  # type: ignore[arg-type]  # no error: it is a T

        def thing() -> None:
            result, error = None, None
            try:
                result = function(*args, **kwargs)
            except BaseException as raised:  # noqa: BLE001 - it is the caller's to judge
                error = _as_exception(raised)
            try:
                loop.call_soon_threadsafe(settle, result, error)
            except RuntimeError:
                return  # the loop has ended, nobody waits

        self._things.put(thing)
        return future

    def busy(self) -> float:
        """Seconds that what now runs has taken so far; 0 where nothing runs."""
        began = self._began
        return 0.0 if began is None else time.monotonic() - began

    def close(self, last: Callable[[], object] = lambda: None) -> None:
        """Run one last thing after what was given before, then end the thread."""
        self._things.put(last)
        self._things.put(None)

    def _work(self) -> None:
        while (thing := self._things.get()) is not None:
            self._began = time.monotonic()
            try:
                thing()
            except Exception:
                log.exception("a model did not end well")
            finally:
                self._began = None


def _as_exception(raised: BaseException) -> Exception:
    """What a future can hold and a task survive: not StopIteration, nor the SystemExit of code that ends itself."""
    if isinstance(raised, Exception) and not isinstance(raised, StopIteration):
        return raised
    return RuntimeError(f"{type(raised).__name__}: {raised}")
