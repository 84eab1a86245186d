"""Asynchronous work beside a plain test. Law: whatever ends the test, what runs beside it is ended and waited for."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Coroutine, Iterator
from concurrent.futures import Future
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

T = TypeVar("T")
R = TypeVar("R")


@dataclass(frozen=True)
class Lived(Generic[T]):
    """What an asynchronous context gives, and the event loop in which that lives."""

    value: T
    loop: asyncio.AbstractEventLoop

    def run(self, work: Coroutine[Any, Any, R]) -> R:
        """What the work gives, once it is done there."""
        return asyncio.run_coroutine_threadsafe(work, self.loop).result()


@contextlib.contextmanager
def beside(context: AbstractAsyncContextManager[T]) -> Iterator[Lived[T]]:
    """The context, entered and left in a thread with an event loop of its own. Raises what it raises."""
    begun: Future[tuple[asyncio.AbstractEventLoop, asyncio.Task[None]]] = Future()
    entered: Future[T] = Future()

    async def stay() -> None:
        task = asyncio.current_task()
        assert task is not None  # noqa: S101 - a coroutine runs in one
        begun.set_result((asyncio.get_running_loop(), task))
        async with context as value:
            entered.set_result(value)
            await asyncio.Event().wait()

    failures: list[BaseException] = []

    def live() -> None:
        try:
            asyncio.run(stay())
        except asyncio.CancelledError:
            pass
        except BaseException as error:  # noqa: BLE001 - it is raised in the other thread
            if not begun.done():  # there is no event loop to be had
                begun.set_exception(error)
            (failures.append if entered.done() else entered.set_exception)(error)

    thread = threading.Thread(target=live, name="mesh")
    thread.start()
    loop, task = begun.result()
    try:
        yield Lived(entered.result(), loop)
    finally:
        with contextlib.suppress(RuntimeError):  # it has failed, and its loop is closed
            loop.call_soon_threadsafe(task.cancel)
        thread.join()
    for failure in failures:
        raise failure
