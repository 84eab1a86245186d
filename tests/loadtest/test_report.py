"""What is told of a contest, and what is not."""

from __future__ import annotations

import json

from rich.console import Console

from loadtest import plot, report
from loadtest.contest import Case
from loadtest.figures import Ratio, Sample
from loadtest.findings import Findings
from loadtest.report import Report, Target

SMALL, ALONE = Case("small", 291, 16), Case("alone", 291, 1, rated=False)


def _samples(*calls: int, cpu: float = 1.0, front: float | None = None, failed: int = 0) -> list[Sample]:
    return [Sample(each, failed, 1.0, cpu, 0.001, cpu if front is None else front) for each in calls]


def _report(subject: list[Sample], baseline: list[Sample], *targets: Target, case: Case = SMALL) -> Report:
    results = {(case.name, "ours"): subject, (case.name, "theirs"): baseline}
    return Report("a contest", [case], ["theirs", "ours"], "theirs", results, targets)


def test_ratios_are_of_rounds() -> None:
    made = _report(_samples(80, 36, 20, front=0.5), _samples(100, 50, 25))
    found = made.compared(SMALL, "ours", "theirs")
    assert found.rates == Ratio(0.8, 0.72, 0.8)
    assert found.cpu == Ratio(0.8, 0.72, 0.8)
    assert found.front == Ratio(1.6, 1.44, 1.6)


def test_no_ratio_of_rates_where_one_proxy_was_idle() -> None:
    for subject, baseline in ((0.5, 1.0), (1.0, 0.5)):
        made = _report(_samples(100, cpu=subject), _samples(100, cpu=baseline))
        found = made.compared(SMALL, "ours", "theirs")
        assert found.rates is None
        assert found.cpu is not None
        assert list(report.remarks(made)) == [
            "small: caller, worker or neighbours were the bottleneck, no ratio of rates: "
            f"ours ({subject:.2f}) to theirs ({baseline:.2f})."
        ]


def test_where_rates_are_not_meant_to_be_told_nothing_is_said_of_them() -> None:
    made = _report(_samples(100, cpu=0.5), _samples(100), case=ALONE)
    assert made.compared(ALONE, "ours", "theirs").rates is None
    assert list(report.remarks(made)) == []


def test_targets() -> None:
    targets = (Target("ours", "theirs", "small", 0.8), Target("ours", "theirs", "small", 0.9))
    made = _report(_samples(85, 85), _samples(100, 100), *targets, Target("ours", "Ray", "small", 10))
    assert list(report.remarks(made)) == [
        "ours over theirs, small: 0.85 (0.85-0.85), aimed at 0.80: met.",
        "ours over theirs, small: 0.85 (0.85-0.85), aimed at 0.90: missed.",
    ]


def test_where_rates_do_not_tell_a_target_is_judged_by_processor_time() -> None:
    made = _report(_samples(100, cpu=0.5), _samples(100, cpu=0.8), Target("ours", "theirs", "small", 1.4))
    assert "ours over theirs, small: 1.60 (1.60-1.60) by CPU, aimed at 1.40: met." in list(report.remarks(made))


def test_failed_calls_are_told() -> None:
    made = _report(_samples(90, 90, failed=5), _samples(100, 100))
    assert made.failed == 10
    assert Findings([made], []).failed
    assert "ours, small: 10 calls failed." in list(report.remarks(made))
    assert not Findings([_report(_samples(1), _samples(1))], []).failed


def test_scripts_get_it_all_and_null_for_nothing() -> None:
    findings = Findings([_report(_samples(0), _samples(100))], [], more={"else": 1}, notes=["so it is"])
    told = json.loads(findings.for_scripts())
    (contest,) = told["contests"]
    ours, theirs = (contest["cases"]["small"]["proxies"][name] for name in ("ours", "theirs"))
    assert (ours["cpu_per_call"], ours["spread"], ours["ratios"]["rates"]) == (None, None, None)
    assert theirs["cpu_per_call"] == 0.01
    assert "ratios" not in theirs
    assert (told["else"], told["notes"][-1]) == (1, "so it is")


def test_people_get_a_table(capsys: object) -> None:
    console = Console(width=150, record=True)
    console.print(report.table(_report(_samples(85), _samples(100))))
    told = console.export_text()
    assert "0.85 (0.85-0.85)" in told
    assert "theirs" in told


def test_costs_are_drawn() -> None:
    (panel,) = report.bars(_report(_samples(50), _samples(100)))
    assert panel == plot.Bars("small", "CPU µs per call", {"theirs": 10_000.0, "ours": 20_000.0})
