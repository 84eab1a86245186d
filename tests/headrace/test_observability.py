"""What is committed is what is made, and its parts fit each other."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from gateway import metrics as of_gateway
from headrace.observability import rules, series
from headrace.observability.__main__ import main
from headrace.observability.alerts import alerts
from headrace.observability.dashboards import dashboards
from headrace.observability.files import files
from headrace.observability.prometheus import Receivers, alertmanager
from headrace.observability.thresholds import Burn, Thresholds, Timing
from protos.metrics.described import label
from tests.readme import TOP
from tests.test_guide import anchors
from workers import metrics as of_worker

DASHBOARDS = {made.uid: made for made in dashboards(Timing())}
ALERTS = list(alerts(Timing(), Thresholds()))


def test_what_is_committed_is_what_is_made() -> None:
    for path, text in files().items():
        assert (TOP / path).read_text() == text, f"{path}: run python -m headrace.observability"
    made = {TOP / path for path in files()}
    for folder in {path.parent for path in made}:
        assert set(folder.iterdir()) <= made, "a file that nothing makes any more"


def test_the_command_says_what_has_changed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(tmp_path)]) == 0
    assert capsys.readouterr().out.splitlines() == [str(tmp_path / path) for path in files()]
    (first, *_) = (tmp_path / path for path in files())
    first.write_text("")
    main([str(tmp_path)])
    assert capsys.readouterr().out.splitlines() == [str(first)]


def test_every_alert_has_a_section_that_says_what_to_do() -> None:
    page = TOP / "docs" / "alerts.md"
    assert {alert.name.lower() for alert in ALERTS} <= anchors(page)
    sections = re.split(r"^### ", page.read_text(), flags=re.MULTILINE)[1:]
    assert [section.split()[0] for section in sections] == [alert.name for alert in ALERTS]
    for section in sections:
        assert [f"**{word}.**" in section for word in ("Means", "Look", "Do")] == [True] * 3, section


def test_alertmanager_knows_the_alerts_that_it_holds_back() -> None:
    names = {alert.name for alert in ALERTS}
    for rule in alertmanager(Receivers())["inhibit_rules"]:  # type: ignore[attr-defined]
        for matcher in (*rule["source_matchers"], *rule["target_matchers"]):
            pattern = re.fullmatch(r'alertname=~"(.*)"', matcher)[1]  # type: ignore[index]
            for one in re.split(r"\|(?![^(]*\))", pattern):
                assert any(re.fullmatch(one, name) for name in names), one


def test_with_other_windows_names_and_windows_go_together() -> None:
    timing = Timing("1s", "10s", Burn("5s", "20s", 14.4), Burn("10s", "40s", 6.0), "1s", "2s")
    recorded = {rule.name for rule in (*rules.traffic(timing), *rules.budgets(timing))}
    for alert in alerts(timing, Thresholds()):
        named = set(re.findall(r"\bmodel\w*:[\w:]+", alert.expression))
        assert named <= recorded, alert.name
    assert "model:headrace_calls_failed:ratio_rate5s" in recorded


def test_every_series_is_one_that_a_process_tells() -> None:
    instruments = (*of_gateway.INSTRUMENTS, *of_worker.INSTRUMENTS)
    told = {one.exposed for one in instruments} | {label(name) for one in instruments for name in one.labels}
    asked = {value for name, value in vars(series).items() if name.isupper() and isinstance(value, str)}
    assert {one for one in asked if re.match(r"(headrace|rpc|hw|process)_\w+$", one)} <= told


def panels(document: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield from (panel for panel in document["panels"] if panel["type"] != "row")


@pytest.mark.parametrize("uid", DASHBOARDS)
def test_the_panels_of_a_dashboard_are_apart_and_say_what_they_show(uid: str) -> None:
    document = json.loads(json.dumps(DASHBOARDS[uid].document()))
    assert len({panel["id"] for panel in document["panels"]}) == len(document["panels"])
    taken = set()
    for panel in document["panels"]:
        at = panel["gridPos"]
        cells = {(x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])}
        assert at["x"] + at["w"] <= 24 and not cells & taken
        taken |= cells
    for panel in panels(document):
        assert panel["title"] and panel["description"] and panel["targets"]
        assert panel["fieldConfig"]["defaults"]["unit"]


@pytest.mark.parametrize("uid", DASHBOARDS)
def test_every_choice_is_in_some_query_and_every_variable_is_a_choice(uid: str) -> None:
    document = DASHBOARDS[uid].document()
    offered = {one["name"] for one in document["templating"]["list"]}  # type: ignore[index]
    asked = {
        name
        for panel in panels(json.loads(json.dumps(document)))
        for target in panel["targets"]
        for name in re.findall(r"\$\{?(\w+)", target["expr"])
    }
    assert asked - {"__rate_interval"} == offered - {"datasource"}
