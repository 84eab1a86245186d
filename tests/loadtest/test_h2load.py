"""What h2load says, and what of it counts."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from loadtest import children, ground, h2load
from loadtest.children import Broken
from loadtest.h2load import Load, Run
from loadtest.payload import answer, prefixed
from tests.loadtest.programs import needs_nghttp2

_BYTES = len(prefixed(answer()))
_SAID = """\
starting benchmark...
progress: 100% done

finished in {finished}, 90764.69 req/s, 10.40MB/s
requests: 10 total, 10 started, 10 done, {good} succeeded, 0 failed, 0 errored, 0 timeout
status codes: {good} 2xx, 0 3xx, 0 4xx, 0 5xx
traffic: 234.58KB (240208) total, 22.89KB (23440) headers (space savings 93.19%), 156.25KB ({data}) data
                     min         max         mean         sd        +/- sd
time for request:       18us       387us        91us        36us    92.70%
"""
_LOG = "1795635337107695\t200\t340\n1795635337107674\t200\t386\n1795635337107722\t404\t1\n1795635337107724\t200\t342\n"


def _parsed(good: int, answers: int, finished: str = "22.04ms", log: str = _LOG) -> Run:
    return h2load.parse(_SAID.format(good=good, data=answers * _BYTES, finished=finished), log, 10)


def test_all_is_well() -> None:
    assert _parsed(10, 10) == Run(10, 0, pytest.approx(0.02204), pytest.approx(342e-6))


@pytest.mark.parametrize(("finished", "seconds"), [("812us", 812e-6), ("22.04ms", 0.02204), ("3.10s", 3.1)])
def test_units(finished: str, seconds: float) -> None:
    assert _parsed(10, 10, finished).seconds == pytest.approx(seconds)


def test_what_is_not_2xx_has_failed() -> None:
    assert (_parsed(7, 10).done, _parsed(7, 10).failed) == (7, 3)


def test_a_refusal_is_a_2xx_that_brings_no_answer() -> None:
    assert (_parsed(10, 6).done, _parsed(10, 6).failed) == (6, 4)


def test_nothing_answered_has_no_latency() -> None:
    assert _parsed(0, 0, log="") == Run(0, 10, pytest.approx(0.02204), float("inf"))


@pytest.mark.parametrize(("said", "told"), [("", "it said nothing"), ("a\nno such file\n", "no such file")])
def test_what_is_no_measurement_is_broken(said: str, told: str) -> None:
    with pytest.raises(Broken, match=told):
        h2load.parse(said, "", 10)


def test_a_load_by_its_name() -> None:
    assert (str(Load(4, 10)), Load(4, 10).width) == ("4x10", 40)


@needs_nghttp2
def test_a_real_run(tmp_path: Path) -> None:
    body = tmp_path / "body"
    body.write_bytes(prefixed(b"x" * 100))
    with ground.ground() as here:
        run = h2load.run(here.other_cpus, here.upstream, (("authorization", "Bearer x"),), body, Load(2, 2), 50)
    assert (run.done, run.failed) == (50, 0)
    assert 0 < run.p50 < run.seconds < 30


@needs_nghttp2
def test_one_that_hangs_is_broken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(h2load, "_PATIENCE", 0.3)
    body = tmp_path / "body"
    body.write_bytes(b"x")
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"127.0.0.1:{silent.getsockname()[1]}"
        with pytest.raises(Broken, match=r"had not done 5 calls .* within 0.3 s"):
            h2load.run(os.sched_getaffinity(0), address, (), body, Load(1, 1), 5)


def test_a_missing_program_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    with pytest.raises(Broken, match="there is no h2load: apt-get install nghttp2-client nghttp2-server brings it"):
        children.find("h2load")
