"""Work that a thread does aside."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence

from protos import aside


def test_what_is_handed_over_is_done_in_order_and_to_the_end() -> None:
    done: list[int] = []
    with aside.aside(done.append, "test") as waiting:
        for number in range(1000):
            waiting.put(number)
    assert done == list(range(1000))


def test_who_hangs_holds_up_neither_those_who_hand_over_nor_the_end() -> None:
    over = threading.Event()
    began = time.monotonic()
    with aside.aside(lambda _one: over.wait(30), "test") as waiting:
        assert not all(waiting.put(0) for _ in range(20_000))
    assert time.monotonic() - began < 10
    over.set()


def test_what_waits_is_taken_together_and_nothing_in_between() -> None:
    over, taken = threading.Event(), []

    def take(some: Sequence[int]) -> None:
        taken.append(list(some))
        over.wait(10)

    with aside.in_batches(take, "test", every=0.01) as waiting:
        for number in range(100):
            waiting.put(number)
        over.set()
        give_up = time.monotonic() + 10
        while taken[-1:] != [[]]:
            assert time.monotonic() < give_up
            time.sleep(0.005)
    assert [number for some in taken for number in some] == [*range(100)]
    assert max(map(len, taken)) > 1
