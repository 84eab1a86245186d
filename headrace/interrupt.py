"""Work that a signal ends. Law: SIGINT, SIGTERM and SIGHUP cancel it, once; what it started it ends on its way out."""

from __future__ import annotations

import asyncio
import contextlib
import signal
from collections.abc import Callable, Coroutine
from typing import Any, Final

_SIGNALS: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


async def interruptible(work: Coroutine[Any, Any, None], stopping: Callable[[], None]) -> bool:
    """Do the work; whether a signal ended it. `stopping` is called when one comes."""
    task = asyncio.create_task(work)

    def stop() -> None:
        if not task.cancelling():
            with contextlib.suppress(OSError):  # the terminal may be gone, which SIGHUP tells
                stopping()
        task.cancel()

    for number in _SIGNALS:
        if signal.getsignal(number) != signal.SIG_IGN:  # as nohup asks
            asyncio.get_running_loop().add_signal_handler(number, stop)
    try:
        await task
    except asyncio.CancelledError:
        return True
    return False
