"""The lines of the Envoy in front, on their way to whoever of us wants them. Law: what is handed on is whole.

Envoy writes what has gathered in pieces that end anywhere, between which another's lines would stand. So it writes
into a pipe of ours, and here a thread takes whole lines from it. Who is handed them must not wait: Envoy would keep in
memory what it cannot write, without bound.
"""

from __future__ import annotations

import contextlib
import logging
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from threading import Event, Thread
from typing import Final

from protos.complaints import Complaints

log = logging.getLogger("headrace.gateway.express")

_TAKEN: Final = 64 * 1024  # bytes at a time, which is what a pipe holds
_LAST_WORDS: Final = 1.0  # seconds that the last lines may take
_AGAIN: Final = 0.02  # seconds
_PAUSE: Final = 1.0  # seconds after which what failed is tried again

Take = Callable[[bytes], None]
"""Is handed whole lines."""


@contextlib.contextmanager
def relayed(pipe: Path, take: Take) -> Iterator[None]:
    """While inside, lines that any Envoy writes there are handed on."""
    os.mkfifo(pipe, 0o600)
    over = Event()
    thread = Thread(target=_relay, args=(pipe, take, over), name="lines of the lane", daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        until = time.monotonic() + _LAST_WORDS
        while thread.is_alive() and time.monotonic() < until:
            _wake(pipe)
            thread.join(_AGAIN)


def _relay(pipe: Path, take: Take, over: Event) -> None:
    """Until it is over: an Envoy waits until somebody reads what it writes."""
    complaints = Complaints(log, time.monotonic)
    while not over.is_set():
        try:
            _take(pipe, _survived(take, complaints))
        except OSError as error:
            log.warning("lines of the lane cannot be read: %s; it is tried again", error.strerror)
            over.wait(_PAUSE)


def _survived(take: Take, complaints: Complaints) -> Take:
    """What is wrong with some lines is no matter of the next."""

    def taken(lines: bytes) -> None:
        try:
            take(lines)
        except Exception as error:  # noqa: BLE001 - whatever it is, the pipe is read on
            complaints.warn(type(error).__name__, "lines of the lane were lost", exc_info=error)

    return taken


def _take(pipe: Path, take: Take) -> None:
    """All that the next Envoy writes."""
    with pipe.open("rb", buffering=0) as lines:  # waits for it
        rest = b""  # of one that was killed: nobody has the end
        while some := lines.read(_TAKEN):
            whole, end, rest = (rest + some).rpartition(b"\n")
            if end:
                take(whole + end)


def _wake(pipe: Path) -> None:
    """Be an Envoy that ends."""
    with contextlib.suppress(OSError):
        os.close(os.open(pipe, os.O_WRONLY | os.O_NONBLOCK))
