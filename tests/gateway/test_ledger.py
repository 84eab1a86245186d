"""What processes keep together: nothing is lost between them, and what may be forgotten is forgotten first."""

from __future__ import annotations

import multiprocessing
import os
import signal
import struct
import time
from collections.abc import Iterator
from multiprocessing.synchronize import Barrier
from pathlib import Path

import pytest

from gateway.ledger import Ledger
from protos.errors import HeadraceError

COUNT = struct.Struct("q")


@pytest.fixture(params=[False, True], ids=["alone", "shared"])
def ledger(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Ledger]:
    made = Ledger(COUNT.size, 64, tmp_path / "ledger" if request.param else None)
    yield made
    made.close()


def _add(ledger: Ledger, *key: str, until: float = 1.0) -> int:
    with ledger.record(*key) as record:
        count = COUNT.unpack(record.value)[0] + 1
        record.value[:] = COUNT.pack(count)
        record.keep(until)
        return int(count)


def test_it_keeps_what_is_written_by_key(ledger: Ledger) -> None:
    assert [_add(ledger, "alice", "digits") for _ in range(3)] == [1, 2, 3]
    assert _add(ledger, "alice", "other") == 1
    with ledger.record("alice", "digits") as record:
        assert not record.new
        assert COUNT.unpack(record.value) == (3,)


def test_the_parts_of_a_key_do_not_run_together(ledger: Ledger) -> None:
    _add(ledger, "ab", "c")
    with ledger.record("a", "bc") as record:
        assert record.new


def test_what_may_be_forgotten_first_is(tmp_path: Path) -> None:
    ledger = Ledger(COUNT.size, 8)  # one set
    for number in range(8):
        _add(ledger, str(number), until=100.0 if number != 5 else 50.0)
    _add(ledger, "another", until=100.0)
    kept = []
    for number in (0, 1, 2, 3, 4, 6, 7):
        with ledger.record(str(number)) as record:
            kept.append(record.new)
    assert kept == [False] * 7
    with ledger.record("5") as record:
        assert record.new


def test_what_is_kept_for_ever_is_not_forgotten() -> None:
    ledger = Ledger(COUNT.size, 8)  # one set
    for number in range(8):
        _add(ledger, str(number), until=float("inf"))
    with pytest.raises(HeadraceError, match="OVERLOADED: too many calls run"), ledger.record("another"):
        pytest.fail("there is no room")
    assert [_add(ledger, str(number)) for number in range(8)] == [2] * 8


def test_nobody_can_tell_where_a_key_is_kept(tmp_path: Path) -> None:
    """Who could would choose keys that push another out."""
    first, second = Ledger(COUNT.size, 64), Ledger(COUNT.size, 64)
    assert first._secret != second._secret
    shared = [Ledger(COUNT.size, 64, tmp_path / "ledger") for _ in range(2)]
    assert shared[0]._secret == shared[1]._secret


def test_a_record_that_is_not_kept_gives_its_place(tmp_path: Path) -> None:
    ledger = Ledger(COUNT.size, 8)
    for number in range(7):
        _add(ledger, str(number))
    for number in range(100):
        with ledger.record("passing", str(number)) as record:
            assert record.new
            assert COUNT.unpack(record.value) == (0,)
            record.value[:] = COUNT.pack(7)
    assert _add(ledger, "0") == 2


def _many(file: Path, times: int, all_there: Barrier) -> None:
    ledger = Ledger(COUNT.size, 64, file)
    all_there.wait(30)
    for _ in range(times):
        _add(ledger, "alice")


def test_no_process_overwrites_what_another_adds(tmp_path: Path) -> None:
    file, times = tmp_path / "ledger", 20_000
    ledger = Ledger(COUNT.size, 64, file)
    context = multiprocessing.get_context("spawn")
    all_there = context.Barrier(3)
    others = [context.Process(target=_many, args=(file, times, all_there)) for _ in range(2)]
    for other in others:
        other.start()
    all_there.wait(30)
    for _ in range(times):
        _add(ledger, "alice")
    for other in others:
        other.join()
    assert _add(ledger, "alice") == 3 * times + 1


def _hold(file: Path, held: str) -> None:
    with Ledger(COUNT.size, 64, file).record("alice"):
        Path(held).touch()
        time.sleep(60)


def test_a_process_that_is_killed_holds_nothing(tmp_path: Path) -> None:
    held = tmp_path / "held"
    other = multiprocessing.get_context("spawn").Process(target=_hold, args=(tmp_path / "ledger", str(held)))
    other.start()
    until = time.monotonic() + 20
    while not held.exists():
        assert time.monotonic() < until
        time.sleep(0.01)
    assert other.pid is not None
    os.kill(other.pid, signal.SIGKILL)
    ledger = Ledger(COUNT.size, 64, tmp_path / "ledger")
    assert _add(ledger, "alice") == 1
    other.join()


def test_every_value_can_be_reached(ledger: Ledger) -> None:
    for number in range(20):
        _add(ledger, str(number))
    for value in ledger.values():
        value[:] = bytes(len(value))
    with ledger.record("7") as record:
        assert COUNT.unpack(record.value) == (0,)
