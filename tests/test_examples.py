"""The clients in docs/examples: short, and of one mind with README.md. tests/interop makes and runs them."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests import readme
from tests.interop import clients

STATUS = re.compile(r"^\| `([A-Z_]+)` \| .* \| (.*) \|$", re.MULTILINE)
ADVICE = dict(STATUS.findall(clients.README))


@pytest.mark.parametrize("name", clients.TOOLS)
def test_each_is_one_file_of_less_than_80_lines(name: str) -> None:
    (source,) = clients.sources(name)
    text = source.read_text()
    assert len(text.splitlines()) < 80
    assert [line for line in text.splitlines() if len(line.expandtabs(4)) > 130] == []


@pytest.mark.parametrize("name", clients.TOOLS)
def test_each_says_what_to_do_about_every_refusal(name: str) -> None:
    (source,) = clients.sources(name)
    assert {advice for advice in ADVICE.values() if advice not in source.read_text()} == set()


def test_every_status_that_callers_may_get_is_told() -> None:
    of_management = {"FAILED_PRECONDITION"}
    assert set(ADVICE) == {status for status, _ in STATUS.findall(readme.TEXT)} - of_management


def test_what_it_links_to_is_there() -> None:
    for target in re.findall(r"\]\(([^)]+)\)", clients.README):
        assert (Path(clients.EXAMPLES) / target.partition("#")[0]).exists(), target
