"""Work that a thread does aside."""

from __future__ import annotations

import queue
import threading
import time

import pytest

from protos import aside


def test_what_is_handed_over_is_done_in_order_and_to_the_end() -> None:
    done: list[int] = []
    with aside.aside(done.append, "test") as waiting:
        for number in range(1000):
            waiting.put_nowait(number)
    assert done == list(range(1000))


def test_who_hangs_holds_up_neither_those_who_hand_over_nor_the_end() -> None:
    over = threading.Event()
    began = time.monotonic()
    with aside.aside(lambda _one: over.wait(30), "test") as waiting:

        def fill() -> None:
            for _ in range(20_000):
                waiting.put_nowait(0)

        with pytest.raises(queue.Full):
            fill()
    assert time.monotonic() - began < 10
    over.set()
