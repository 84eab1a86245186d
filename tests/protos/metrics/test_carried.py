"""A snapshot that one process tells another is the same there."""

from __future__ import annotations

import pytest

from protos.metrics import carried, process
from protos.metrics.instruments import Registry
from protos.metrics.snapshot import Exemplar, Family, Snapshot, grown, merged
from tests.protos.metrics.test_instruments import CALLS, DEPTH, TIMES

TABLE = {one.name: one for one in (CALLS, DEPTH, TIMES)}


@pytest.fixture
def snapshot() -> Snapshot:
    made = Registry(lambda: 100.0)
    made.counter(CALLS).add(3, 'a"b\u00e9', "python")
    times = made.histogram(TIMES)
    times.record(0.003, "python", exemplar=Exemplar("a1" * 16, 0.003, 99.5))
    times.record(0.0, "python", number=4)
    made.asked(DEPTH, lambda: {("digits",): 2})
    return made.snapshot()


def test_what_is_read_is_what_was_written(snapshot: Snapshot) -> None:
    assert carried.read(carried.written(snapshot), TABLE) == snapshot


@pytest.mark.parametrize("text", [b"", b"[]", b"[0, 0, {}, 1]", b'[0, 0, {"other": []}]', b'[0, 0, {"x": 1}]', b"7"])
def test_anything_else_is_told(text: bytes) -> None:
    with pytest.raises(ValueError, match=r"no snapshot|Expecting|values|unpack"):
        carried.read(text, TABLE)


def test_of_who_has_ended_only_what_grows_is_true(snapshot: Snapshot) -> None:
    left = grown(snapshot)
    assert {family.described for family in left.families} == {CALLS, TIMES}
    both = merged([snapshot, left])
    assert [family for family in both.families if family.described is DEPTH] == [Family(DEPTH, {("digits",): 2.0})]


def test_a_process_tells_of_itself() -> None:
    made = Registry(lambda: 100.0)
    process.of_itself(made)
    told = {family.described.exposed: dict(family.points) for family in made.snapshot().families}
    assert set(told) == {
        "process_cpu_seconds_total",
        "process_resident_memory_bytes",
        "process_open_fds",
        "process_thread_count",
    }
    assert all(points[()] > 0 for points in told.values())
