"""What the kernel tells of processes."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from loadtest import processes

_NEST = "import subprocess, sys; subprocess.run([sys.executable, '-c', 'print(1, flush=True); input()'])"


def test_a_tree() -> None:
    with subprocess.Popen(
        [sys.executable, "-c", _NEST], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as root:
        assert root.stdout is not None
        root.stdout.readline()
        found = processes.tree(root.pid)
        root.communicate("\n")
    assert found[0] == root.pid
    assert len(found) == 2


def test_by_name() -> None:
    mine = Path("/proc/self/comm").read_text().strip()
    assert processes.named(mine, [os.getpid()]) == [os.getpid()]
    assert processes.named("envoy", [os.getpid()]) == []


def test_times_are_those_of_the_kernel() -> None:
    mine = os.times()
    assert processes.cpu([os.getpid()]) == pytest.approx(mine.user + mine.system, abs=0.2)
    assert processes.cpu([]) == 0


def test_memory() -> None:
    resident, proportional = processes.memory(os.getpid())
    assert 2**20 < proportional <= resident


def test_one_that_runs_can_be_bound() -> None:
    cpu = max(os.sched_getaffinity(0))
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as one:
        processes.bind(one.pid, {cpu})
        assert os.sched_getaffinity(one.pid) == {cpu}
        one.communicate(b"\n")


def test_one_that_is_gone_has_nothing_to_tell() -> None:
    with subprocess.Popen([sys.executable, "-c", ""]) as gone:
        pass
    with pytest.raises(OSError, match=str(gone.pid)):
        processes.cpu([gone.pid])
