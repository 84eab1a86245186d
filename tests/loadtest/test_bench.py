"""The benchmark itself, briefly: that it runs, that it tells failures, and that it leaves nothing behind."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
import typer
from typer.testing import CliRunner

from gateway.settings import load
from loadtest import bench, children, pair, rounds, setting
from loadtest.children import Broken, child
from loadtest.output import Output
from loadtest.rounds import Plan

pytestmark = pytest.mark.skipif(
    not hasattr(os, "sched_setaffinity") or len(os.sched_getaffinity(0)) < 2, reason="needs Linux and two processors"
)
BRIEF = Plan(rounds=1, seconds=0.2, concurrency=4)


@pytest.fixture(autouse=True)
def _nothing_left_behind() -> Iterator[None]:
    cpus, before = os.sched_getaffinity(0), set(psutil.Process().children(recursive=True))
    yield
    assert set(psutil.Process().children(recursive=True)) <= before
    assert os.sched_getaffinity(0) == cpus


@pytest.mark.parametrize(
    "subject", ["gateway", *(pytest.param(name, marks=pytest.mark.bench) for name in ("null", "threads"))]
)
def test_a_short_run(subject: str) -> None:
    result = CliRunner().invoke(bench.app, [subject, "--rounds", "1", "--seconds", "0.2", "-o", "json"])
    assert result.exit_code == 0, result.output
    report = json.loads(result.stdout)
    assert set(report["sizes"]) == {"small", "large"}
    for size in report["sizes"].values():
        assert 0 < size["ratio"]["low"] <= size["ratio"]["median"] <= size["ratio"]["high"]
        assert size["cpu_ratio"]["median"] > 0
        for proxy in ("subject", "baseline"):
            assert size[proxy]["calls"] > 0
            assert size[proxy]["failed"] == 0
            assert size[proxy]["p50"] > 0
            assert size[proxy]["busy"] < 1.2  # one processor, and the rounding of its clock


def test_the_table_for_people(capsys: pytest.CaptureFixture[str]) -> None:
    pair.run("null", BRIEF, Output.TABLE)
    out = capsys.readouterr().out
    assert "calls/s" in out
    assert "602" in out


def test_failed_calls_are_told(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(typer.Exit) as caught:
        pair.run("gateway", BRIEF, Output.JSON, backend_status=14)
    assert caught.value.exit_code == 1
    captured = capsys.readouterr()
    report = json.loads(captured.out)
    assert report["sizes"]["small"]["subject"]["failed"] > 0
    assert report["sizes"]["small"]["subject"]["cpu_per_call"] is None
    assert report["sizes"]["small"]["subject"]["calls"] == 0
    assert report["sizes"]["small"]["ratio"] is None
    assert "calls failed" in captured.err


def test_a_proxy_that_does_not_start_is_told(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(rounds, "_command", lambda *_: ("-c", "import sys; sys.exit('no such key')"))
    with pytest.raises(typer.Exit) as caught:
        pair.run("gateway", BRIEF, Output.TABLE)
    assert caught.value.exit_code == 1
    said = capsys.readouterr().err
    assert "nothing measured" in said
    assert "no such key" in said


async def test_a_proxy_that_ends_meanwhile_is_told() -> None:
    with rounds.stage("null") as standing:
        standing.proxies[rounds.SUBJECT].process.kill()
        standing.proxies[rounds.SUBJECT].process.wait(20)
        with pytest.raises(Broken, match="has ended"):
            await rounds.measure(standing, BRIEF, lambda: None)


def test_one_processor_is_not_enough(capsys: pytest.CaptureFixture[str]) -> None:
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(before)})
    try:
        with pytest.raises(typer.Exit) as caught:
            pair.run("null", BRIEF, Output.TABLE)
    finally:
        os.sched_setaffinity(0, before)
    assert caught.value.exit_code == 1
    assert "two processors" in capsys.readouterr().err


def test_a_child_keeps_to_its_processor_and_ends(tmp_path: Path) -> None:
    cpu = max(os.sched_getaffinity(0))
    with (tmp_path / "log").open("w+") as log, child({cpu}, "-m", "loadtest.backend", "0", log=log) as backend:
        process = psutil.Process(backend.process.pid)
        assert process.cpu_affinity() == [cpu]
        assert backend.cpu() >= 0
    assert not process.is_running()


def test_a_child_that_says_nothing_is_broken(tmp_path: Path) -> None:
    with (
        (tmp_path / "log").open("w+") as log,
        pytest.raises(Broken, match="status 3"),
        child(os.sched_getaffinity(0), "-c", "raise SystemExit(3)", log=log),
    ):
        pytest.fail("it came up")


def test_a_child_that_is_silent_is_broken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(children, "_START", 0.2)
    with (
        (tmp_path / "log").open("w+") as log,
        pytest.raises(Broken, match="status -9"),
        child(os.sched_getaffinity(0), "-c", "import time; time.sleep(60)", log=log),
    ):
        pytest.fail("it came up")


@pytest.mark.parametrize("module", ["loadtest.backend", "loadtest.bare", "loadtest.threads"])
def test_children_end_with_their_parent(module: str) -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", module, "0"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdin is not None
    assert "127.0.0.1:" in process.stdout.readline()
    process.stdin.close()
    assert process.wait(20) == 0
    process.stdout.close()


def test_the_gateway_takes_the_configuration(tmp_path: Path) -> None:
    config, token = setting.write(tmp_path, "127.0.0.1:1", "127.0.0.1:2")
    settings = load(config, {})
    assert settings.telemetry.sample == 0.1
    assert token.count(".") == 2
