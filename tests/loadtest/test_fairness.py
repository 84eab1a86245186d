"""What one caller feels of another: measured briefly, on a worker that bears little."""

from __future__ import annotations

import json

import pytest
from typer.testing import CliRunner

from loadtest import bench, fairness
from loadtest.fairness import Turn
from loadtest.pace import Seen
from tests.loadtest.test_bench import pytestmark as needs_processors

pytestmark = needs_processors


@pytest.mark.bench
def test_a_short_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fairness, "SHARE", 20.0)
    monkeypatch.setattr(fairness, "AT_A_TIME", 2)
    result = CliRunner().invoke(bench.app, ["fairness", "--rounds", "1", "--seconds", "1", "-o", "json"])
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)["fairness"]
    assert found.keys() == {"no limits", "a rate", "what it bears"}
    assert found["no limits"]["refused_p99"] is None
    assert found["no limits"]["moved"] > 3
    assert found["a rate"]["refused_p99"] is not None
    assert found["a rate"]["moved"] < found["no limits"]["moved"]
    assert all(one["failed"] == 0 for one in found.values())


def test_calls_that_were_given_up_count_as_long_as_they_were_waited_for() -> None:
    seen = Seen(answered=[0.02] * 98, late=[2.0] * 2)
    assert fairness._p99(seen) > 1.9
    assert fairness._p99(Seen(answered=[0.02] * 100, refused=[0.001] * 500)) == pytest.approx(0.02)


def test_whether_the_aim_is_met_is_said() -> None:
    slow, quick = Seen(answered=[0.03] * 100, refused=[0.001] * 100), Seen(answered=[0.02] * 100)
    found = {
        (name, times): [Turn(slow if times == 20 and name != "a rate" else quick, slow)]
        for name in fairness.POLICIES
        for times in fairness.TIMES
    }
    notes = list(fairness._findings(found).remarks())
    assert "1.50" in notes[0]
    assert "aim" not in notes[0]
    assert "the aim of 1.2 is met; refusals come within 1 ms" in notes[1]
    assert "the aim of 1.2 is missed" in notes[2]
