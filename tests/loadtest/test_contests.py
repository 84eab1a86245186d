"""Each contest once, briefly; and how what a contest has found becomes what a command says."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
import typer
from typer.testing import CliRunner

from loadtest import bench, plot
from loadtest.children import Broken
from loadtest.contest import Case
from loadtest.figures import Sample
from loadtest.findings import Findings, Track
from loadtest.output import Output
from loadtest.report import Report
from tests.envoy import needs_envoy
from tests.loadtest.programs import needs_nghttp2, needs_nghttpx

BRIEF = ("--rounds", "1", "--seconds", "0.1", "-o", "json")


@pytest.fixture(autouse=True)
def _nothing_left_behind() -> Iterator[None]:
    before = set(psutil.Process().children(recursive=True))
    yield
    assert set(psutil.Process().children(recursive=True)) <= before


def _findings(failed: int) -> Findings:
    results = {("small", "hop"): [Sample(10, failed, 1.0, 1.0, 0.001, 1.0)]}
    report = Report("a contest", [Case("small", 291, 16)], ["hop"], "hop", results)
    return Findings([report], [plot.Bars("small", "µs", {"hop": 1.0})])


@pytest.mark.parametrize("output", Output)
def test_what_was_found_is_printed(output: Output, capsys: pytest.CaptureFixture[str]) -> None:
    def measured(track: Track) -> Findings:
        track("something", 1)()
        return _findings(0)

    bench.conclude("null", measured, output, None)
    assert "a contest" in capsys.readouterr().out


def test_failed_calls_are_told(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(typer.Exit) as caught:
        bench.conclude("null", lambda _: _findings(3), Output.TABLE, None)
    assert caught.value.exit_code == 1
    assert "hop, small: 3 calls failed." in capsys.readouterr().err


def test_what_is_broken_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    def measured(_: Track) -> Findings:
        raise Broken("there is no h2load")

    with pytest.raises(typer.Exit) as caught:
        bench.conclude("null", measured, Output.TABLE, None)
    assert caught.value.exit_code == 1
    assert "nothing measured: there is no h2load" in capsys.readouterr().err


def test_it_is_written_for_scripts_and_drawn(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("matplotlib")
    bench.conclude("null", lambda _: _findings(0), Output.JSON, tmp_path / "new")
    assert (tmp_path / "new/null.json").read_text() == capsys.readouterr().out
    assert "hop" in (tmp_path / "new/null.svg").read_text()


@pytest.mark.parametrize("command", ["express", "peers", "scale"])
def test_without_the_programs_there_is_one_sentence(command: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    result = CliRunner().invoke(bench.app, [command])
    assert result.exit_code == 1
    assert "apt-get install nghttp2-client nghttp2-server" in " ".join(result.stderr.split())


@pytest.mark.parametrize("arguments", ["peers --ray-python /no/such", "scale --most 1", "express -x"])
def test_usage(arguments: str) -> None:
    assert CliRunner().invoke(bench.app, arguments.split()).exit_code == 2


@pytest.mark.bench
@pytest.mark.timeout(300)
@needs_envoy
@needs_nghttp2
@needs_nghttpx
@pytest.mark.parametrize(
    ("command", "cases", "proxies"),
    [
        (["express"], 6, 3),
        (["peers"], 2, 7),
        (["scale", "--most", "100", "--largest", "10000"], 1, 2),
    ],
)
def test_a_short_run(command: list[str], cases: int, proxies: int) -> None:
    result = CliRunner().invoke(bench.app, [*command, *BRIEF])
    assert result.exit_code == 0, result.output
    told = json.loads(result.stdout)
    found = told["contests"][0]["cases"]
    assert len(found) == cases
    for case in found.values():
        assert len(case["proxies"]) == proxies
        assert all(one["calls"] > 0 and one["failed"] == 0 for one in case["proxies"].values())
    if command == ["peers"]:
        assert "Ray Serve is left out" in told["notes"][-1]
    if command[0] == "scale":
        assert set(told["connections"]) == {"express", "gateway"}
        assert set(told["first_calls"]) == {"express, 10", "express, 100", "gateway, 10", "gateway, 100"}
