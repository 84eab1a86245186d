"""What docs/traces.md says is so."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest
import yaml

from gateway.settings import load
from headrace.traces.source import JAEGER
from headrace.traces.store import ROOM
from protos import tracing
from tests import readme
from tests.gateway.tokens import Issuer
from tests.gateway.world import in_front_of
from tests.headrace.called import headrace

GUIDE = readme.TOP / "docs" / "traces.md"
TEXT = GUIDE.read_text()
PICTURES = sorted((readme.TOP / "docs" / "pictures").glob("trace*.svg"))


def options(command: str) -> set[str]:
    told = headrace(command, "--help", environ={"COLUMNS": "200"}).stdout
    return set(re.findall(r"^│ (--\w+)", told, re.MULTILINE)) - {"--help"}


def test_its_options_are_those_of_the_command() -> None:
    assert set(re.findall(r"^\| `(-[-\w]+)", TEXT, re.MULTILINE)) == options("trace") - {"--output"} | {"-o"}
    assert JAEGER in TEXT
    assert set(re.findall(r"\(`(--\w+)`\)", TEXT)) == options("collector")
    assert f"{ROOM // 2**20} MiB" in TEXT


def test_the_tags_to_search_for_are_the_spans_own() -> None:
    own = {value for name, value in vars(tracing).items() if name.isupper() and isinstance(value, str)}
    keys = set(re.findall(r"([\w.]+)=", " ".join(re.findall(r"^\| `(.*)` \|", TEXT, re.MULTILINE))))
    assert keys - {"error"} <= own
    assert len(keys) > 5


def test_its_settings_are_read(tmp_path: Path) -> None:
    (block,) = re.findall(r"^```yaml\n(.*?)^```$", TEXT, re.MULTILINE | re.DOTALL)
    loaded = load(in_front_of("127.0.0.1:1", tmp_path, Issuer(), "digits", **yaml.safe_load(block)), {})
    assert loaded.telemetry.otlp == "http://127.0.0.1:4317"


@pytest.mark.parametrize("picture", PICTURES, ids=lambda picture: picture.name)
def test_a_picture_is_whole_and_asks_nobody_for_anything(picture: Path) -> None:
    assert f"(pictures/{picture.name})" in TEXT
    text = picture.read_text()
    assert ET.fromstring(text).tag == "{http://www.w3.org/2000/svg}svg"
    assert not re.search(r"@font-face|@import|<script|<image|url\((?!#)|xlink", text)


def test_the_files_that_it_names_are_there() -> None:
    assert len(PICTURES) == 2
    for link in re.findall(r"\]\(([^)#:]+)", TEXT):
        assert (GUIDE.parent / link).exists(), link
