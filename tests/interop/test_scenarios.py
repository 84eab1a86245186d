"""Each scenario in `loadtest/scenarios`, run by ghz for a few seconds, to the demo's workers by either lane."""

from __future__ import annotations

import json
import os
import re
import subprocess
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import pytest

from tests.envoy import needs_envoy
from tests.interop.staying_demo import Counted, Demo, Gateway, staying_demo
from tests.loadtest.scenarios import NAMES, OPTIONS, README, TOP, file, scenario

pytestmark = [pytest.mark.interop, pytest.mark.timeout(600)]

SECONDS = 3
HASTE = {  # what else must be shorter, for something to be seen by then
    "ramp": ("--load-step-duration", "1s"),
    "spike": ("--load-step-duration", "1s", "--load-max-duration", "2s"),
}


@dataclass(frozen=True)
class Run:
    """What ghz reports of a run, what each version did meanwhile, and how many calls went past Python."""

    scenario: Mapping[str, Any]
    report: Mapping[str, Any]
    done: Mapping[str, Counted]
    carried: int

    @property
    def calls(self) -> int:
        return int(self.report["count"])

    @property
    def requests(self) -> int:
        return sum(version.requests for version in self.done.values())

    def by_second(self) -> list[int]:
        """How many calls were begun in each second."""
        details = self.report["details"]
        began = [datetime.fromisoformat(one["timestamp"]).timestamp() - one["latency"] / 1e9 for one in details]
        counted = Counter(int(one - min(began)) for one in began)
        return [counted[second] for second in range(SECONDS)]


def keeps_its_rate(run: Run) -> None:
    asked = run.scenario["rps"] * SECONDS
    assert 0.8 * asked <= run.calls <= 1.1 * asked


def rises(run: Run) -> None:
    first, second, third = run.by_second()
    assert first < second < third
    assert third > 2 * first


def rises_and_falls(run: Run) -> None:
    before, during, after = run.by_second()
    assert during > 3 * before
    assert during > 3 * after


def has_many_messages_in_a_stream(run: Run) -> None:
    assert run.requests == 10 * run.calls


def reaches_every_version(run: Run) -> None:
    """Two of five messages are for one version, two for the other, and one for either."""
    assert min(version.requests for version in run.done.values()) >= 2 * run.calls // 5


def sends_large_batches(run: Run) -> None:
    """A worker reads so many pictures only where so many bytes have come."""
    pictures = sum(version.pictures for version in run.done.values())
    assert pictures * 64 * 4 / run.requests > 500_000


SHOWS: dict[str, Callable[[Run], None]] = {
    "steady": keeps_its_rate,
    "ramp": rises,
    "spike": rises_and_falls,
    "soak": keeps_its_rate,
    "stream": has_many_messages_in_a_stream,
    "mixed": reaches_every_version,
    "large": sends_large_batches,
}


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Demo]:
    """A demo whose workers take large batches, as the README has it."""
    (enlarge,) = re.findall(r"^```sh\n(sed .*?)^```$", README, re.MULTILINE | re.DOTALL)
    with staying_demo(tmp_path_factory.mktemp("demo")) as made:
        names = {"DEMO": str(made.folder), "WORKERS": " ".join(made.workers.values())}
        subprocess.run(["bash", "-euc", enlarge], env={**os.environ, **names}, check=True, timeout=60)
        yield made


@pytest.fixture(scope="module", params=["python", pytest.param("express", marks=needs_envoy)])
def gateway(request: pytest.FixtureRequest, demo: Demo) -> Iterator[Gateway]:
    with demo.gateway(request.param) as made:
        yield made


def ghz(name: str, gateway: Gateway, *options: str, token: str) -> dict[str, Any]:
    command = ("ghz", "--config", file(name), *options, "--format", "json", gateway.address)
    environment = {**os.environ, "TOKEN": token}
    said = subprocess.run(command, env=environment, cwd=TOP, capture_output=True, text=True, timeout=120, check=False)
    assert said.returncode == 0, said.stderr
    report: dict[str, Any] = json.loads(said.stdout)
    return report


@pytest.mark.parametrize("name", NAMES)
def test_it_does_what_its_name_says(name: str, demo: Demo, gateway: Gateway) -> None:
    before, carried = demo.counted(), gateway.carried()
    report = ghz(name, gateway, "--duration", f"{SECONDS}s", *HASTE.get(name, ()), token=demo.token)
    done = {version: counted - before[version] for version, counted in demo.counted().items()}
    run = Run(scenario(name), report, done, gateway.carried() - carried)
    assert run.calls >= 20
    assert report["statusCodeDistribution"] == {"OK": run.calls}, report["errorDistribution"]
    assert run.requests == run.calls * run.scenario.get("stream-call-count", 1)
    if gateway.express and run.scenario["call"].endswith("/ModelInfer"):
        assert run.carried > run.calls / 2
    else:
        assert run.carried == 0
    SHOWS[name](run)


def test_without_a_token_it_says_so(gateway: Gateway) -> None:
    report = ghz("steady", gateway, "--duration", "1s", token="")
    assert report["statusCodeDistribution"] == {"Unauthenticated": report["count"]}
    (words,) = (error.partition("desc = ")[2] for error in report["errorDistribution"])
    assert words in README


def test_reports_do_not_tell_the_token(demo: Demo, gateway: Gateway) -> None:
    report = ghz("steady", gateway, "--duration", "1s", token=demo.token)
    assert report["statusCodeDistribution"] == {"OK": report["count"]}
    assert demo.token not in json.dumps(report)


def test_the_options_are_those_that_ghz_has() -> None:
    shown = subprocess.run(["ghz", "--help"], capture_output=True, text=True, check=True)
    flags = set(re.findall(r"^ {2,6}(?:-\w, )?--([\w-]+)", shown.stdout + shown.stderr, re.MULTILINE))
    assert flags - {"help", "version", "config", "binary"} == OPTIONS - {"host"}
